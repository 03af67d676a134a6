import Domain
import Ledger
import Postgres
import Synchronization
import TestSupport
import Trust

@testable import Access

/// A migrated database of its own, with the ledger as the API's login sees it and a pool of the database's
/// owner.
struct TestDatabase {
    let ledger: Ledger
    let owner: PostgresPool

    static let macKey = MACKeyOf.bytes(7)

    /// The judge of edges; nobody hears of those that do not hold.
    static let judge = EdgeJudge(key: macKey, keyID: "k1") { _ in }

    func authenticator(
        store: Revocations.Store = .memory, issuers: OIDCKeys? = nil,
        now: @escaping @Sendable () -> Instant = { .now() },
        onTokenRefusal: @escaping @Sendable (String) -> Void = { _ in }
    ) -> Authenticator {
        Authenticator(
            ledger: ledger, seals: RowSeals(key: Self.macKey, keyID: "k1"), judge: Self.judge, store: store,
            issuers: issuers, onTokenRefusal: onTokenRefusal, now: now)
    }

    /// How people sign in, with sealing keys of the tests.
    static func signIn(_ authenticator: Authenticator) throws -> SignIn {
        let secret = SecretBytes(Array(repeating: 9, count: 32))
        return SignIn(
            authenticator,
            sealing: try SealingKeys(current: SealingKeys.Key(id: "k1", secret: secret)))
    }

    var tenants: TenantMaker { TenantMaker(ledger: ledger, judge: Self.judge) }

    static func with(_ body: (TestDatabase) async throws -> Void) async throws {
        try await World.with { world in try await body(TestDatabase(ledger: world.api, owner: world.owner)) }
    }
}

enum MACKeyOf {
    static func bytes(_ byte: UInt8) -> MACKey {
        do { return try MACKey(bytes: Array(repeating: byte, count: 32)) } catch { fatalError("\(error)") }
    }
}

/// A clock that tests set.
final class ManualClock: Sendable {
    private let time = Mutex(Instant(seconds: 1_900_000_000))

    var now: Instant { time.withLock { $0 } }
    func advance(_ duration: Duration) { time.withLock { $0 = $0 + duration } }
}

/// The refusal that a body ends with.
func refusal(_ body: () async throws -> Void) async throws -> AccessError {
    do {
        try await body()
    } catch let error as AccessError {
        return error
    }
    throw NothingRefused()
}

struct NothingRefused: Error {}
