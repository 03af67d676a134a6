/// Where the private servers keep their data and how safely.
package struct EmbeddedOptions: Sendable {
    /// The directory that holds data, secrets and logs; an absolute path, made if it is not there.
    package var dataDirectory: String
    /// The directory of the sockets; nil means `run` in the data directory, or a short one in `/tmp` where
    /// that path is too long for a socket.
    package var runDirectory: String?
    /// False skips all waiting for the disk, for tests only.
    package var durable: Bool

    /// Options with durable settings.
    package init(dataDirectory: String, runDirectory: String? = nil, durable: Bool = true) {
        self.dataDirectory = dataDirectory
        self.runDirectory = runDirectory
        self.durable = durable
    }
}
