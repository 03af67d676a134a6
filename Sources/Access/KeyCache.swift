import Domain
import Trust

/// What is known of one issuer's keys, and when to ask again. No clock, no I/O: each event returns what to
/// do.
///
/// **none**: nothing was ever fetched; every token asks for a fetch, but not sooner than `retryAfter` after
/// one that failed. **fresh**: until `freshUntil` the keys are used, and only a name that they lack asks for
/// a fetch, at most one each `refetchAfter`; names that a fetch did not bring are remembered for
/// `unknownFor`, `unknownMax` of them. **stale**: after that every token asks for a fetch; while those fail,
/// the keys are used until `staleFor` later, then nothing is believed. What the issuer takes out of its set
/// is gone with the next fetch that succeeds. A crash leaves nothing: keys are in memory only.
struct KeyCache {
    /// How long keys are used without asking, whatever the issuer says.
    static let lifetimeSeconds = 300...86_400
    /// How much longer, where the issuer does not answer.
    static let staleFor = Duration.seconds(3_600)
    /// How soon an issuer is asked again: for a name that it did not have, and after it failed.
    static let refetchAfter = Duration.seconds(60)
    static let retryAfter = Duration.seconds(10)
    /// How long a name is known to be of no key, and how many are remembered.
    static let unknownFor = Duration.seconds(120)
    static let unknownMax = 256

    /// What to do for a token.
    enum Decision {
        /// Judge it by these keys.
        case use(JSONWebKeySet)
        /// Ask the issuer, then decide again.
        case fetch
        /// No key of this name.
        case unknownKey
        /// No keys that may still be used, and it is too soon to ask again.
        case unavailable
    }

    private var keys: JSONWebKeySet?
    /// What the issuer says of itself, as of the last fetch; keys of Clerk's API come without.
    private(set) var document: IssuerDocument?
    private var freshUntil = Instant(seconds: 0)
    private var askedAt: Instant?
    private var hasFailed = false
    private var unknown: [String: Instant] = [:]

    /// How many names of no key are remembered.
    var unknownCount: Int { unknown.count }

    /// Decides for a token that names a key, or for whoever only wants to know what the issuer says.
    func decide(_ keyID: String?, at now: Instant) -> Decision {
        let sinceAsked = askedAt.map { now - $0 }
        let mayRetry = sinceAsked.map { !hasFailed || $0 >= Self.retryAfter } ?? true
        guard let keys, now < freshUntil + Self.staleFor else { return mayRetry ? .fetch : .unavailable }
        guard now < freshUntil else { return mayRetry ? .fetch : found(keyID, in: keys) }
        guard let keyID, !keys.names(keyID) else { return .use(keys) }
        if let until = unknown[keyID], now < until { return .unknownKey }
        return sinceAsked.map { $0 >= Self.refetchAfter } ?? true ? .fetch : .unknownKey
    }

    /// Takes what a fetch for a name brought, good for so long.
    mutating func take(
        _ fetched: JSONWebKeySet, _ document: IssuerDocument?, for keyID: String?, lifetime: Duration,
        at now: Instant
    ) {
        let range = Self.lifetimeSeconds
        let bounded = min(max(lifetime, .seconds(Int64(range.lowerBound))), .seconds(Int64(range.upperBound)))
        (keys, freshUntil, askedAt, hasFailed) = (fetched, now + bounded, now, false)
        self.document = document
        unknown = unknown.filter { now < $0.value && !fetched.names($0.key) }
        guard let keyID, !fetched.names(keyID) else { return }
        if unknown.count >= Self.unknownMax, let first = unknown.min(by: { $0.value < $1.value })?.key {
            unknown[first] = nil
        }
        unknown[keyID] = now + Self.unknownFor
    }

    /// Takes that a fetch failed.
    mutating func fail(at now: Instant) { (askedAt, hasFailed) = (now, true) }

    private func found(_ keyID: String?, in keys: JSONWebKeySet) -> Decision {
        keyID.map(keys.names) ?? true ? .use(keys) : .unknownKey
    }
}
