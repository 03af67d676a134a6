import CProcess

/// How many descriptors, and so files and connections, this process may have open.
package enum DescriptorLimit {
    /// Raises the limit to the most that this process may set (RLIMIT_NOFILE), and returns it. Children have
    /// it too, unless they are given another.
    package static func raise() throws(ProcessError) -> Int {
        let limit = crmm_raise_descriptors()
        guard limit >= 0 else {
            throw ProcessError(.resource, errno: Int32(-limit), "the limit of descriptors could not be read")
        }
        return Int(limit)
    }
}
