package import Redis

/// The library of functions that run inside Redis, put together from its parts.
///
/// Each part is a namespace of functions that only adds to those above it. Names of functions are global in a
/// server, so they carry the library's name: `crmm_v3_claim`. A release that changes a contract takes another
/// version, and two releases work side by side.
package enum Library {
    /// The version of the contract between the functions and `Queue`.
    static let version = "crmm_v3"

    /// The library under its versioned name; a suffix lets several stand in one server.
    package static func source(suffix: String) -> RedisFunctionLibrary {
        let name = version + suffix
        let parts = [
            ground, limits, admission, bringing, priority, cost, claim, settlement, control, presence,
        ]
        let source =
            "#!lua name=\(name)\nlocal LIBRARY = '\(name)'\n\n" + parts.joined(separator: "\n\n") + "\n"
        return RedisFunctionLibrary(name: name, source: source)
    }
}
