/// A library of functions that run inside the server.
package struct RedisFunctionLibrary: Sendable, Equatable {
    /// By which the server knows the library; it carries the version, so that two releases coexist.
    package let name: String
    /// Lua, with the first line `#!lua name=<name>`.
    package let source: String

    /// A library of this name; `load` refuses it if its first line names another.
    package init(name: String, source: String) {
        self.name = name
        self.source = source
    }
}

extension RedisFunctionLibrary {
    fileprivate func check() throws(RedisError) {
        guard source.prefix(while: { !$0.isNewline }) == "#!lua name=\(name)" else {
            throw RedisError(
                .configuration, "the function library \(name) does not begin with “#!lua name=\(name)”")
        }
    }

    fileprivate func isLoaded(_ send: (RedisCommand) async throws -> RedisValue) async throws -> Bool {
        let list = RedisCommand("FUNCTION", "LIST", "LIBRARYNAME", .string(name), "WITHCODE")
        let present = try await send(list).array?.first?.array ?? []
        // One library is a flat array of field, value, field, value.
        guard let field = present.firstIndex(where: { $0.text == "library_code" }) else { return false }
        return present.indices.contains(field + 1) && present[field + 1].text == source
    }

    fileprivate func load(_ send: (RedisCommand) async throws -> RedisValue) async throws {
        if try await isLoaded(send) { return }
        _ = try await send(RedisCommand("FUNCTION", "LOAD", "REPLACE", .string(source)))
    }
}

extension RedisConnection {
    /// Makes the server have exactly this library: loads it, in place of another version of the same name,
    /// unless it is there already (so it may be called at each start).
    ///
    /// In a cluster every master gets it. One that cannot be reached is passed over, for it gets it when it
    /// is asked for a function (`load(_:near:)`); the first error is thrown if none has it then. Throws
    /// `.configuration` when the first line of the source does not name the library.
    package func load(_ library: RedisFunctionLibrary) async throws {
        try library.check()
        var (isAnywhere, failure) = (false, RedisError?.none)
        for master in try await masters() {
            do {
                try await library.load { try await master.send($0) }
                isAnywhere = true
            } catch let error as RedisError {
                guard error.code != .cancelled else { throw error }
                failure = failure ?? error
            }
        }
        if !isAnywhere, let failure { throw failure }
    }

    /// The servers with data of their own that do not have exactly this library.
    package func masters(without library: RedisFunctionLibrary) async throws -> [RedisNode] {
        var lacking: [RedisNode] = []
        for master in try await masters()
        where try await !library.isLoaded({ try await master.send($0) }) { lacking.append(master) }
        return lacking
    }

    /// The same for the one server that has this key.
    package func load(_ library: RedisFunctionLibrary, near key: String) async throws {
        try library.check()
        try await library.load { try await self.send($0.near(key)) }
    }

    /// Calls a function of a loaded library (`FCALL`).
    package func call(
        _ function: String, keys: [String], arguments: [RedisArgument], timeout: Duration? = nil
    ) async throws -> RedisValue {
        var command = RedisCommand("FCALL", .string(function), .int(keys.count))
        command.append(contentsOf: keys.lazy.map { .string($0) })
        command.append(contentsOf: arguments)
        return try await send(command, timeout: timeout)
    }
}
