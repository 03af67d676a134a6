import Domain
import Outbound
import Synchronization
import Trust

/// The keys of issuers: fetched from where their discovery documents say, kept in memory only.
///
/// One fetch at a time for each issuer: who comes meanwhile waits for it. What is reached is guarded as for
/// every host that a tenant names, but for issuers that the operator trusts to be on private addresses.
package final class OIDCKeys: Sendable {
    /// How many issuers are remembered.
    package static let issuersMax = 1_000
    /// How long one request to an issuer may take.
    package static let timeout = Duration.seconds(5)
    /// The most bytes of a discovery document.
    package static let discoveryBytesMax = 64 << 10
    /// Where Clerk tells an application's keys to who has its secret.
    package static let clerkKeysURL = "https://api.clerk.com/v1/jwks"

    /// Whose keys are wanted, and from where.
    struct Source: Hashable {
        let issuer: String
        let keySource: OIDCKeySource
    }

    /// Why there are no keys.
    enum Failure: String, Error {
        /// The issuer named another issuer, or no address of keys that may be asked.
        case badDiscovery
        /// The issuer's answer was none, or no set of keys.
        case badAnswer
        /// The issuer could not be reached, or may not be.
        case unreachable
        /// Clerk's API is wanted, but there is no secret.
        case noSecret
        /// The issuer did not take a code.
        case codeRefused
        /// No keys that may still be used.
        case unavailable
    }

    /// Operator's settings.
    package struct Configuration: Sendable {
        /// Issuers that may be on private addresses, and on loopback without TLS.
        package var trustedIssuers: Set<String>
        /// The secret of the operator's Clerk application.
        package var clerkSecret: String?
        /// A PEM file with the only authorities to trust for `trustedIssuers`; `nil` means the system's.
        package var certificateAuthorityPath: String?
        /// Where Clerk tells keys.
        package var clerkKeysURL: String
        /// How long one request may take.
        package var timeout: Duration

        /// Settings.
        package init(
            trustedIssuers: Set<String> = [], clerkSecret: String? = nil,
            certificateAuthorityPath: String? = nil, clerkKeysURL: String = OIDCKeys.clerkKeysURL,
            timeout: Duration = OIDCKeys.timeout
        ) {
            self.trustedIssuers = trustedIssuers
            self.clerkSecret = clerkSecret
            self.certificateAuthorityPath = certificateAuthorityPath
            self.clerkKeysURL = clerkKeysURL
            self.timeout = timeout
        }
    }

    private struct Issuer {
        var cache = KeyCache()
        var isFetching = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        var usedAt: Instant
    }

    private let configuration: Configuration
    private let guarded: HTTPClient
    private let trusted: HTTPClient
    private let issuers = Mutex<[Source: Issuer]>([:])

    /// The keys of an installation; `ownAddresses` are its own listeners, which no tenant's issuer may be.
    package init(_ configuration: Configuration, ownAddresses: [[UInt8]] = []) {
        self.configuration = configuration
        guarded = HTTPClient(policy: .guarded, ownAddresses: ownAddresses)
        trusted = HTTPClient(policy: .operator)
    }

    /// Ends what is under way.
    package func close() {
        guarded.close()
        trusted.close()
    }

    /// Whether an operator may trust a text as an issuer's name: an address without query, fragment and user.
    package static func isTrustable(_ text: String) -> Bool {
        isPlain(text) && (text.hasPrefix("https://") || text.hasPrefix("http://"))
    }

    private static func isPlain(_ text: String) -> Bool {
        (1...512).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
            && !text.contains { "?#@\\".contains($0) }
    }

    /// Whether text can be an issuer: `https`, or what the operator trusts; without query and fragment.
    package func isIssuer(_ text: String) -> Bool {
        isTrusted(text) ? Self.isTrustable(text) : Self.isPlain(text) && text.hasPrefix("https://")
    }

    // MARK: Keys

    /// What an issuer says of itself, as of the last fetch of its keys.
    /// - Throws: `Failure`.
    func document(of source: Source, at now: Instant) async throws -> IssuerDocument {
        _ = try await keys(of: source, for: nil, at: now)
        guard let document = issuers.withLock({ $0[source]?.cache.document }) else {
            throw Failure.badDiscovery
        }
        return document
    }

    /// The keys of a source, of which one is wanted, or none in particular.
    /// - Throws: `Failure`, and `JWTRefusal` with `unknownKey`.
    func keys(of source: Source, for keyID: String?, at now: Instant) async throws -> JSONWebKeySet {
        while true {
            switch step(source, keyID, now) {
            case .use(let keys): return keys
            case .unknownKey: throw JWTRefusal(.unknownKey)
            case .unavailable: throw Failure.unavailable
            case .fetch:
                if claim(source) {
                    try await fetch(source, keyID, now)
                } else {
                    await wait(source)
                }
            }
        }
    }

    private func step(_ source: Source, _ keyID: String?, _ now: Instant) -> KeyCache.Decision {
        issuers.withLock { issuers in
            if issuers[source] == nil, issuers.count >= Self.issuersMax,
                let oldest = issuers.filter({ !$0.value.isFetching }).min(by: {
                    $0.value.usedAt < $1.value.usedAt
                })
            {
                issuers[oldest.key] = nil
            }
            issuers[source, default: Issuer(usedAt: now)].usedAt = now
            return issuers[source, default: Issuer(usedAt: now)].cache.decide(keyID, at: now)
        }
    }

    /// Whether the caller is the one who fetches.
    private func claim(_ source: Source) -> Bool {
        issuers.withLock { issuers in
            guard issuers[source]?.isFetching == false else { return false }
            issuers[source]?.isFetching = true
            return true
        }
    }

    private func wait(_ source: Source) async {
        await withCheckedContinuation { continuation in
            let isOver = issuers.withLock { issuers in
                guard issuers[source]?.isFetching == true else { return true }
                issuers[source]?.waiting.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    /// Fetches, and wakes who waits: they decide anew, so that one of them fetches if this caller was
    /// cancelled.
    private func fetch(_ source: Source, _ keyID: String?, _ now: Instant) async throws {
        let outcome: Result<Fetched, any Error>
        do {
            outcome = .success(try await ask(source))
        } catch {
            outcome = .failure(error)
        }
        let isCancelled = Task.isCancelled
        let waiting = issuers.withLock { issuers in
            switch outcome {
            case .success(let fetched):
                issuers[source]?.cache.take(
                    fetched.keys, fetched.document, for: keyID, lifetime: fetched.lifetime, at: now)
            case .failure: if !isCancelled { issuers[source]?.cache.fail(at: now) }
            }
            issuers[source]?.isFetching = false
            let waiting = issuers[source]?.waiting ?? []
            issuers[source]?.waiting = []
            return waiting
        }
        for continuation in waiting { continuation.resume() }
        if isCancelled { throw CancellationError() }
    }

    // MARK: Requests

    private struct Fetched {
        let keys: JSONWebKeySet
        let document: IssuerDocument?
        let lifetime: Duration
    }

    private func ask(_ source: Source) async throws -> Fetched {
        let response: HTTPResponse
        var document: IssuerDocument?
        switch source.keySource {
        case .discovery:
            let found = try await self.document(of: source.issuer)
            document = found
            response = try await get(found.keysURL, of: source.issuer, bytesMax: JSONWebKeySet.bytesMax)
        case .clerkAPI:
            guard let secret = configuration.clerkSecret else { throw Failure.noSecret }
            // The operator's own application: its address and its secret.
            response = try await get(
                configuration.clerkKeysURL, of: source.issuer, bytesMax: JSONWebKeySet.bytesMax,
                headers: [("Authorization", "Bearer \(secret)")], by: trusted)
        }
        do {
            return Fetched(
                keys: try JSONWebKeySet(document: response.body, issuer: source.issuer), document: document,
                lifetime: Self.lifetime(of: response))
        } catch {
            throw Failure.badAnswer
        }
    }

    /// OpenID Connect Discovery, 4: the document stands below the issuer, and names the issuer exactly.
    private func document(of issuer: String) async throws -> IssuerDocument {
        let base = issuer.hasSuffix("/") ? String(issuer.dropLast()) : issuer
        let response = try await get(
            base + "/.well-known/openid-configuration", of: issuer, bytesMax: Self.discoveryBytesMax)
        // What is no document names nobody.
        guard let document = try? IssuerDocument(document: response.body),
            document.issuer.utf8.elementsEqual(issuer.utf8),
            [document.keysURL, document.authorizationURL, document.tokenURL].allSatisfy({
                $0.map { mayBeAsked($0, of: issuer) } ?? true
            })
        else { throw Failure.badDiscovery }
        return document
    }

    private func mayBeAsked(_ url: String, of issuer: String) -> Bool {
        url.hasPrefix("https://") || isTrusted(issuer) && url.hasPrefix("http://")
    }

    /// What the issuer answers to a form (RFC 6749, 4.1.3), which has a code and its proof.
    /// - Throws: `Failure`: `codeRefused` for what the issuer refuses.
    func exchange(
        _ form: String, at url: String, of issuer: String, authorization: String?
    ) async throws -> TokenAnswer {
        let response = try await send(
            HTTPRequest(
                method: "POST", url: url,
                headers: [
                    ("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded"),
                ] + (authorization.map { [("Authorization", $0)] } ?? []),
                body: Array(form.utf8), timeout: configuration.timeout,
                responseBytesMax: Self.discoveryBytesMax,
                certificateAuthorityPath: isTrusted(issuer) ? configuration.certificateAuthorityPath : nil),
            by: isTrusted(issuer) ? trusted : guarded)
        guard response.status == 200 else {
            throw (400..<500).contains(response.status) ? Failure.codeRefused : Failure.badAnswer
        }
        do { return try TokenAnswer(document: response.body) } catch { throw Failure.badAnswer }
    }

    private func send(_ request: HTTPRequest, by client: HTTPClient) async throws -> HTTPResponse {
        do {
            return try await client.send(request)
        } catch let error as OutboundError {
            throw error.code == .bodyTooLarge ? Failure.badAnswer : Failure.unreachable
        }
    }

    private func get(
        _ url: String, of issuer: String, bytesMax: Int, headers: [(String, String)] = [],
        by client: HTTPClient? = nil
    ) async throws -> HTTPResponse {
        let isTrusted = isTrusted(issuer) || client != nil
        let request = HTTPRequest(
            url: url, headers: [("Accept", "application/json")] + headers, timeout: configuration.timeout,
            responseBytesMax: bytesMax,
            certificateAuthorityPath: isTrusted ? configuration.certificateAuthorityPath : nil)
        let response = try await send(request, by: client ?? (isTrusted ? trusted : guarded))
        // No redirect is followed: it would say another's keys.
        guard response.status == 200 else { throw Failure.badAnswer }
        return response
    }

    private func isTrusted(_ issuer: String) -> Bool {
        configuration.trustedIssuers.contains { $0.utf8.elementsEqual(issuer.utf8) }
    }

    /// `max-age` of `Cache-Control` (RFC 9111, 5.2.2.1); without one, the shortest that there is.
    private static func lifetime(of response: HTTPResponse) -> Duration {
        let directives = (response.header("cache-control") ?? "").lowercased().split(separator: ",")
        for directive in directives {
            let parts = directive.split(separator: "=", maxSplits: 1).map {
                $0.filter { $0 != " " && $0 != "\"" }
            }
            if parts.count == 2, parts[0] == "max-age", let seconds = Int32(parts[1]), seconds >= 0 {
                return .seconds(Int64(seconds))
            }
        }
        return .seconds(Int64(KeyCache.lifetimeSeconds.lowerBound))
    }
}
