import COpenSSL
import Glibc

/// An X.509 certificate: what it says. Whether it may be believed is decided by a handshake or by who keeps
/// it.
package struct Certificate: Sendable {
    let x509: Owned
    /// The certificate as PEM.
    package let pem: String
    /// The certificate as DER.
    package let der: [UInt8]
    /// The serial number in lower-case hexadecimal digits, two a byte, no leading zero bytes.
    package let serial: String
    /// Begin of validity, seconds since 1970.
    package let notBefore: Int64
    /// Last second of validity, seconds since 1970.
    package let notAfter: Int64
    /// The subject's common name; empty when it has none.
    package let subjectCommonName: String
    /// The URIs among the alternative names: a device's identity.
    package let uriNames: [String]
    /// The DNS names among the alternative names.
    package let dnsNames: [String]
    /// SHA-256 over the DER of the public key.
    package let publicKeyHash: [UInt8]
    /// Whether it may issue certificates.
    package let isCA: Bool
    /// The extended key usages as short names (`serverAuth`, `clientAuth`), or dotted numbers where there is
    /// no name; empty when there is no such extension.
    package let extendedKeyUsages: [String]

    /// Reads the first certificate of a PEM; throws `malformed`.
    package init(pem: String) throws(TrustError) {
        let bio = try MemoryBIO(pem)
        try self.init(
            unsafe Owned(
                PEM_read_bio_X509(bio.pointer, nil, nil, nil), X509_free,
                "read a certificate", as: .malformed))
    }

    init(_ x509: Owned) throws(TrustError) {
        self.x509 = x509
        let bio = try MemoryBIO()
        try check(unsafe PEM_write_bio_X509(bio.pointer, x509.pointer), "write a certificate")
        pem = bio.text()
        der = try unsafe derBytes { unsafe i2d_X509(x509.pointer, $0) }
        let number = unsafe X509_get0_serialNumber(x509.pointer)
        serial = unsafe Hex.encode(Self.bytes(of: number).drop { $0 == 0 })
        notBefore = try unsafe Self.seconds(X509_get0_notBefore(x509.pointer))
        notAfter = try unsafe Self.seconds(X509_get0_notAfter(x509.pointer))
        subjectCommonName = unsafe Self.commonName(X509_get_subject_name(x509.pointer))
        (uriNames, dnsNames) = Self.alternativeNames(x509)
        let key = try unsafe derBytes { unsafe i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509.pointer), $0) }
        publicKeyHash = SHA256.hash(key)
        isCA = unsafe X509_get_extension_flags(x509.pointer) & UInt32(EXFLAG_CA) != 0
        extendedKeyUsages = Self.usages(x509)
        ERR_clear_error()
    }

    /// All certificates of a PEM, at least one; throws `malformed`.
    static func all(pem: String) throws(TrustError) -> [Certificate] {
        let bio = try MemoryBIO(pem)
        var found: [Certificate] = []
        while let next = unsafe PEM_read_bio_X509(bio.pointer, nil, nil, nil) {
            found.append(
                try Certificate(unsafe Owned(next, X509_free, "read a certificate")))
        }
        guard !found.isEmpty else { throw TrustError.openSSL(.malformed, "cannot read a certificate") }
        ERR_clear_error()
        return found
    }

    /// Whether this authority has signed the certificate, and is named in it as who did.
    package func isIssued(by authority: Certificate) -> Bool {
        defer { ERR_clear_error() }
        guard authority.isCA, let key = unsafe X509_get0_pubkey(authority.x509.pointer) else { return false }
        // Only 1 from the library means yes.
        return unsafe X509_check_issued(authority.x509.pointer, x509.pointer) == X509_V_OK
            && X509_verify(x509.pointer, key) == 1
    }

    /// Throws `notYetValid` or `expired` unless `now` lies within the validity.
    package func checkValidity(at now: Int64) throws(TrustError) {
        guard now >= notBefore else {
            throw TrustError(.notYetValid, "the certificate \(serial) is not yet valid")
        }
        guard now <= notAfter else { throw TrustError(.expired, "the certificate \(serial) has expired") }
    }

    private static func bytes(of string: UnsafePointer<ASN1_STRING>?) -> [UInt8] {
        guard let string = unsafe string, let start = unsafe ASN1_STRING_get0_data(string) else { return [] }
        return unsafe Array(UnsafeBufferPointer(start: start, count: Int(ASN1_STRING_length(string))))
    }

    private static func text(of string: UnsafePointer<ASN1_STRING>?) -> String {
        unsafe String(decoding: bytes(of: string), as: UTF8.self)
    }

    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) throws(TrustError) -> Int64 {
        var parts = unsafe tm()
        try check(unsafe ASN1_TIME_to_tm(time, &parts), "read a certificate's time", as: .malformed)
        return unsafe Int64(timegm(&parts))
    }

    private static func commonName(_ name: OpaquePointer?) -> String {
        let index = unsafe X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        guard index >= 0, let entry = unsafe X509_NAME_get_entry(name, index) else { return "" }
        var utf8: UnsafeMutablePointer<UInt8>?
        let count = unsafe ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry))
        guard count >= 0, let start = unsafe utf8 else { return "" }
        defer { unsafe CRYPTO_free(start, nil, 0) }
        return unsafe String(decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
    }

    private static func alternativeNames(_ x509: Owned) -> (uris: [String], dns: [String]) {
        guard let raw = unsafe X509_get_ext_d2i(x509.pointer, NID_subject_alt_name, nil, nil) else {
            return ([], [])
        }
        let names = OpaquePointer(raw)
        defer { unsafe GENERAL_NAMES_free(names) }
        var uris: [String] = []
        var dns: [String] = []
        for index in 0..<(unsafe crmm_sk_GENERAL_NAME_num(names)) {
            guard let name = unsafe crmm_sk_GENERAL_NAME_value(names, index) else { continue }
            switch unsafe name.pointee.type {
            case GEN_URI: unsafe uris.append(text(of: name.pointee.d.uniformResourceIdentifier))
            case GEN_DNS: unsafe dns.append(text(of: name.pointee.d.dNSName))
            default: break
            }
        }
        return (uris, dns)
    }

    private static func usages(_ x509: Owned) -> [String] {
        guard let raw = unsafe X509_get_ext_d2i(x509.pointer, NID_ext_key_usage, nil, nil) else { return [] }
        let usages = OpaquePointer(raw)
        defer { unsafe EXTENDED_KEY_USAGE_free(usages) }
        return (0..<(unsafe crmm_sk_ASN1_OBJECT_num(usages))).map { index in
            let object = unsafe crmm_sk_ASN1_OBJECT_value(usages, index)
            let number = unsafe OBJ_obj2nid(object)
            if number != NID_undef, let name = unsafe OBJ_nid2sn(number) {
                return unsafe String(cString: name)
            }
            var text = [CChar](repeating: 0, count: 128)
            _ = unsafe OBJ_obj2txt(&text, Int32(text.count), object, 1)
            return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
    }
}
