import Ledger
import Synchronization
import Wire

/// The newest key set that was published, as it is handed to agents.
///
/// A job that a new key has signed must not reach an agent before the key set that names this key: the agent
/// would refuse it for good. A key set is published before its keys sign anything, so whoever meets a key
/// that it has not met before looks for the newest set first.
final class PublishedKeySet: Sendable {
    /// A key set, and its version.
    struct Newest: Sendable {
        let version: Int
        let statement: Base64Bytes
    }

    private struct State {
        var newest: Newest?
        /// The version that was handed to everybody who was here.
        var pushed = 0
        /// Keys that were met, each before a look.
        var keys: Set<String> = []
    }

    private let ledger: Ledger
    private let state = Mutex(State())

    init(ledger: Ledger) { self.ledger = ledger }

    /// The newest that is known.
    var newest: Newest? { state.withLock(\.newest) }

    /// The newest, if it is newer than this version.
    func newer(than version: Int) -> Newest? { newest.flatMap { $0.version > version ? $0 : nil } }

    /// Looks for the newest.
    func look() async throws {
        guard let found = try await ledger.newestKeySet() else { return }
        state.withLock { state in
            guard found.version > state.newest?.version ?? 0 else { return }
            state.newest = Newest(version: found.version, statement: .prepared(found.statement))
        }
    }

    /// The newest, if it was not handed to everybody yet; it counts as handed from now on.
    func takeUnpushed() -> Newest? {
        state.withLock { state in
            guard let newest = state.newest, newest.version > state.pushed else { return nil }
            state.pushed = newest.version
            return newest
        }
    }

    /// Statements by these keys are about to be sent.
    func meet(_ keys: some Sequence<String>) async throws {
        let unmet = state.withLock { $0.keys.isSuperset(of: keys) ? [] : Set(keys).subtracting($0.keys) }
        guard !unmet.isEmpty else { return }
        try await look()
        state.withLock { state in
            // An installation has had some keys in its life; rows that name others must not fill the memory.
            if state.keys.count > Self.keysMax { state.keys = [] }
            state.keys.formUnion(unmet)
        }
    }

    private static let keysMax = 1_024
}
