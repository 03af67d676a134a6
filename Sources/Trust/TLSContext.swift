import COpenSSL
import Synchronization

/// What one side of TLS brings to every connection: its certificate, whom it believes, versions and
/// protocols.
///
/// Both sides ask of the other's certificate that it carries the extended key usage of its role and is not a
/// CA's. A server issues one ticket a session, of at most an hour, and takes no early data. A client
/// remembers the newest session of each server name in memory and offers it at the next connection. Built
/// once, shared by all threads.
package final class TLSContext: Sendable {
    /// A lowest protocol version.
    package enum Version: Sendable {
        case v12, v13

        fileprivate var number: Int32 { self == .v12 ? TLS1_2_VERSION : TLS1_3_VERSION }
    }

    /// What a client asks of a server's certificate beside its issuer, its name and its time.
    package enum ServerUse: Sendable {
        /// That it says of itself, by its extended key usage, that it is a server's, and is no CA's.
        case stated
        /// That it does not say otherwise: certificates of other programs' servers often say nothing.
        case unstated
    }

    enum Side: Equatable {
        case server(asksCertificate: Bool)
        case client
    }

    /// How long a ticket resumes a session.
    package static let ticketLifetimeSeconds = 3600

    private static let rememberedMax = 64

    let owned: Owned
    let side: Side
    let now: @Sendable () -> Int64
    let sessions = Atomic<Int>(0)
    private let protocols: [[UInt8]]
    private let tickets: TicketKeys?
    private let remembered = Mutex<[String: Owned]>([:])

    /// How many TLS sessions of this context exist now.
    package var sessionCount: Int { sessions.load(ordering: .relaxed) }

    /// The side that accepts. With `clientCA` (one or more certificates, PEM) every client must show a
    /// certificate from there; without, none is asked for. `alpn` lists protocols by preference: a client
    /// that offers others alone is refused, one that offers nothing is accepted. `tickets` let several
    /// processes resume each other's sessions; `now` is the clock that certificates and tickets are judged
    /// by.
    package static func server(
        certificatePEM: String, keyPEM: String, clientCA: String?, minimum: Version = .v13,
        alpn: [String] = [],
        tickets: TicketKeys? = nil, now: @escaping @Sendable () -> Int64 = systemSeconds
    ) throws(TrustError) -> TLSContext {
        let context = try TLSContext(
            .server(asksCertificate: clientCA != nil), minimum, alpn, tickets: tickets, now)
        try context.use(certificatePEM: certificatePEM, keyPEM: keyPEM)
        let pointer = unsafe context.owned.pointer
        if let clientCA {
            try context.trust(clientCA)
            let mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
            unsafe SSL_CTX_set_verify(pointer, mode) { verdict, store in
                unsafe TLSContext.judge(verdict, store, usage: UInt32(XKU_SSL_CLIENT))
            }
        }
        // A ticket may only be used where the same CA was asked for: the id separates listeners that share
        // ticket keys.
        let id = SHA256.hash(Array((clientCA ?? "").utf8))
        try check(
            unsafe SSL_CTX_set_session_id_context(pointer, id, UInt32(id.count)), "set a session context")
        unsafe SSL_CTX_set_num_tickets(pointer, 1)
        unsafe SSL_CTX_set_timeout(pointer, ticketLifetimeSeconds)
        try check(unsafe SSL_CTX_set_max_early_data(pointer, 0), "refuse early data")
        if tickets != nil {
            let this = unsafe Unmanaged.passUnretained(context).toOpaque()
            try check(unsafe SSL_CTX_set_ex_data(pointer, 0, this), "set the ticket keys")
            let answer: TicketAnswer = { ssl, name, iv, cipher, mac, seals in
                unsafe TLSContext.ticket(ssl, name, iv, cipher, mac, seals: seals == 1)
            }
            try check(unsafe SSL_CTX_set_tlsext_ticket_key_evp_cb(pointer, answer), "set the ticket keys")
        }
        if !context.protocols.isEmpty {
            let this = unsafe Unmanaged.passUnretained(context).toOpaque()
            unsafe SSL_CTX_set_alpn_select_cb(
                pointer,
                { _, chosen, chosenCount, offered, offeredCount, context in
                    unsafe TLSContext.select(chosen, chosenCount, offered, offeredCount, context)
                }, this)
        }
        return context
    }

    /// The side that connects: believes servers of `trustedCA` (one or more certificates, PEM; `nil`: of the
    /// authorities that the system trusts) and nobody else, and shows the given certificate when it is asked.
    package static func client(
        trustedCA: String?, certificatePEM: String? = nil, keyPEM: String? = nil, minimum: Version = .v13,
        alpn: [String] = [], serverUse: ServerUse = .stated,
        now: @escaping @Sendable () -> Int64 = systemSeconds
    ) throws(TrustError) -> TLSContext {
        let context = try TLSContext(.client, minimum, alpn, tickets: nil, now)
        let pointer = unsafe context.owned.pointer
        if let trustedCA {
            try context.trust(trustedCA)
        } else {
            try check(unsafe SSL_CTX_set_default_verify_paths(pointer), "trust the system's authorities")
        }
        switch serverUse {
        case .stated:
            unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER) { verdict, store in
                unsafe TLSContext.judge(verdict, store, usage: UInt32(XKU_SSL_SERVER))
            }
        case .unstated: unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        }
        if let certificatePEM, let keyPEM {
            try context.use(certificatePEM: certificatePEM, keyPEM: keyPEM)
        } else if certificatePEM != nil || keyPEM != nil {
            throw TrustError(.malformed, "a client certificate needs its key, and a key its certificate")
        }
        let wire = context.protocols.flatMap { [UInt8($0.count)] + $0 }
        // The manual: SSL_CTX_set_alpn_protos "returns 0 on success, and non-0 on failure".
        if !wire.isEmpty, unsafe SSL_CTX_set_alpn_protos(pointer, wire, UInt32(wire.count)) != 0 {
            throw TrustError.openSSL(.library, "cannot offer protocols")
        }
        return context
    }

    private init(
        _ side: Side, _ minimum: Version, _ alpn: [String], tickets: TicketKeys?,
        _ now: @escaping @Sendable () -> Int64
    ) throws(TrustError) {
        let protocols = alpn.map { Array($0.utf8) }
        guard protocols.allSatisfy({ (1...255).contains($0.count) }) else {
            throw TrustError(.malformed, "a protocol's name has 1 to 255 bytes")
        }
        self.protocols = protocols
        self.side = side
        self.tickets = tickets
        self.now = now
        let method = unsafe side == .client ? TLS_client_method() : TLS_server_method()
        owned = try unsafe Owned(SSL_CTX_new(method), SSL_CTX_free, "make a TLS context")
        let pointer = unsafe owned.pointer
        try check(
            unsafe crmm_SSL_CTX_set_min_proto_version(pointer, minimum.number), "set the lowest TLS version")
        try check(
            unsafe SSL_CTX_set_cipher_list(pointer, "ECDHE+AESGCM:ECDHE+CHACHA20"),
            "set the ciphers of TLS 1.2")
        unsafe crmm_SSL_CTX_refuse_renegotiation(pointer)
        unsafe crmm_SSL_CTX_set_mode(
            pointer, Int(SSL_MODE_RELEASE_BUFFERS) | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        unsafe crmm_SSL_CTX_set_session_cache_mode(pointer, Int(SSL_SESS_CACHE_OFF))
    }

    private func use(certificatePEM: String, keyPEM: String) throws(TrustError) {
        let chain = try Certificate.all(pem: certificatePEM)
        let key = try P256Key.anyKind(pem: keyPEM)
        let pointer = unsafe owned.pointer
        try check(unsafe SSL_CTX_use_certificate(pointer, chain[0].x509.pointer), "use the certificate")
        for issuer in chain.dropFirst() {
            try check(
                unsafe crmm_SSL_CTX_add1_chain_cert(pointer, issuer.x509.pointer), "use the certificate chain"
            )
        }
        let fits = unsafe SSL_CTX_use_PrivateKey(pointer, key.pointer)
        try check(fits, "use the key with this certificate", as: .wrongType)
    }

    private func trust(_ authorities: String) throws(TrustError) {
        let store = unsafe SSL_CTX_get_cert_store(owned.pointer)
        for authority in try Certificate.all(pem: authorities) {
            try check(unsafe X509_STORE_add_cert(store, authority.x509.pointer), "trust a CA")
            if side != .client {
                try check(unsafe SSL_CTX_add_client_CA(owned.pointer, authority.x509.pointer), "name a CA")
            }
        }
    }

    /// Called by the library for each certificate of the other side's chain. Its own purpose check lets a
    /// certificate without extended key usage pass for everything; here the leaf must name its role.
    private static func judge(_ verdict: Int32, _ store: OpaquePointer?, usage: UInt32) -> Int32 {
        guard verdict == 1, unsafe X509_STORE_CTX_get_error_depth(store) == 0,
            let leaf = unsafe X509_STORE_CTX_get_current_cert(store)
        else { return verdict }
        let usages = unsafe X509_get_extended_key_usage(leaf)
        let isCA = unsafe X509_get_extension_flags(leaf) & UInt32(EXFLAG_CA) != 0
        if usages != UInt32.max, usages & usage != 0, !isCA { return 1 }
        unsafe X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE)
        return 0
    }

    /// Called by the library with the client's list of protocols; points into that list, as the manual
    /// allows.
    private static func select(
        _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ chosenCount: UnsafeMutablePointer<UInt8>?,
        _ offered: UnsafePointer<UInt8>?, _ offeredCount: UInt32, _ context: UnsafeMutableRawPointer?
    ) -> Int32 {
        guard let context = unsafe context, let offered = unsafe offered else {
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        let this = unsafe Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
        let list = unsafe Array(UnsafeBufferPointer(start: offered, count: Int(offeredCount)))
        var places: [[UInt8]: Int] = [:]
        var index = 0
        while index < list.count, case let end = index + 1 + Int(list[index]), end <= list.count {
            places[Array(list[(index + 1)..<end])] = index + 1
            index = end
        }
        guard let choice = this.protocols.first(where: { places[$0] != nil }), let place = places[choice]
        else {
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        unsafe chosen?.pointee = offered + place
        unsafe chosenCount?.pointee = UInt8(choice.count)
        return SSL_TLSEXT_ERR_OK
    }

    private typealias TicketAnswer =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?,
            OpaquePointer?, Int32
        ) -> Int32

    /// Called by the library for each ticket that it seals or opens. The manual: 0 is a ticket that does not
    /// count, which costs a full handshake; 2 is one that does, and is to be replaced by a new one.
    private static func ticket(
        _ ssl: OpaquePointer?, _ name: UnsafeMutablePointer<UInt8>?, _ iv: UnsafeMutablePointer<UInt8>?,
        _ cipher: OpaquePointer?, _ mac: OpaquePointer?, seals: Bool
    ) -> Int32 {
        guard let name = unsafe name, let iv = unsafe iv,
            let context = unsafe SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0)
        else { return -1 }
        let this = unsafe Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
        guard let tickets = this.tickets else { return -1 }
        let nameBytes = unsafe UnsafeMutableBufferPointer(start: name, count: TicketKeys.nameByteCount)
        guard seals else {
            guard let key = tickets.opening(unsafe Array(nameBytes), at: this.now()) else { return 0 }
            return unsafe key.prepare(cipher: cipher, mac: mac, iv: iv, seals: false) ? 2 : -1
        }
        let key = tickets.sealing(at: this.now())
        _ = unsafe nameBytes.update(fromContentsOf: key.name)
        guard unsafe RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 else { return -1 }
        return unsafe key.prepare(cipher: cipher, mac: mac, iv: iv, seals: true) ? 1 : -1
    }

    /// Takes the session to offer to `serverName`. Each is offered once: one that turns out bad must not
    /// spoil every later handshake too.
    func takeSession(for serverName: String) -> Owned? {
        remembered.withLock { $0.removeValue(forKey: serverName) }
    }

    /// Keeps `session` for the next connection to `serverName`.
    func remember(_ session: Owned, for serverName: String) {
        remembered.withLock { sessions in
            if sessions.count >= Self.rememberedMax { sessions.removeAll() }
            sessions[serverName] = session
        }
    }
}
