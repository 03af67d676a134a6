import Foundation
import Testing
import Trust

@Suite struct CertificateTests {
    let authorities = TestAuthorities.shared

    private func code(_ body: () throws -> Void) -> TrustError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? TrustError)?.code
        }
    }

    @Test("a key comes back from its PEM")
    func keyRoundTrip() throws {
        let key = P256Key()
        #expect(key.pem.hasPrefix("-----BEGIN PRIVATE KEY-----"))
        #expect(try P256Key(pem: key.pem).publicKeyHash == key.publicKeyHash)
        #expect(P256Key().publicKeyHash != key.publicKeyHash)
    }

    @Test("keys of other kinds, encrypted keys and no keys are refused")
    func otherKeys() async throws {
        let rsa = try await Tool.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        let p384 = try await Tool.openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384")
        let encrypted = try await Tool.openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass",
            "pass:secret")
        #expect(code { _ = try P256Key(pem: rsa.output) } == .wrongType)
        #expect(code { _ = try P256Key(pem: p384.output) } == .wrongType)
        #expect(code { _ = try P256Key(pem: encrypted.output) } == .malformed)
        #expect(code { _ = try P256Key(pem: "") } == .malformed)
    }

    @Test("a device's certificate says what TRUST asks for")
    func deviceCertificate() throws {
        let key = P256Key()
        let now: Int64 = 1_800_000_000
        let request = try CertificateRequest(pem: key.certificateRequest(commonName: "mine"))
        #expect(request.publicKeyHash == key.publicKeyHash)
        let authority = try CertificateAuthority.make(
            commonName: "Devices", validitySeconds: 365 * 86_400, now: now)
        let certificate = try authority.issueDevice(
            request: request, deviceURI: TestAuthorities.deviceURI, now: now)
        #expect(certificate.uriNames == [TestAuthorities.deviceURI])
        #expect(certificate.dnsNames.isEmpty)
        #expect(certificate.subjectCommonName == "a1")
        #expect(certificate.extendedKeyUsages == ["clientAuth"])
        #expect(!certificate.isCA)
        #expect(certificate.publicKeyHash == key.publicKeyHash)
        #expect(certificate.notBefore == now - 300)
        #expect(certificate.notAfter == now + 90 * 86_400)
        let other = try authority.issueDevice(
            request: request, deviceURI: TestAuthorities.deviceURI, now: now)
        #expect(other.serial != certificate.serial && certificate.serial.utf8.count > 24)
        #expect(code { try certificate.checkValidity(at: now - 301) } == .notYetValid)
        #expect(code { try certificate.checkValidity(at: now + 90 * 86_400) } == nil)
        #expect(code { try certificate.checkValidity(at: now + 90 * 86_400 + 1) } == .expired)
    }

    @Test("a server's certificate has its names, serverAuth and nothing more")
    func serverCertificate() async throws {
        let certificate = authorities.server.certificate
        #expect(certificate.dnsNames == ["localhost", "gateway.test"])
        #expect(certificate.extendedKeyUsages == ["serverAuth"])
        #expect(!certificate.isCA && certificate.uriNames.isEmpty)
        let text = try await Tool.openssl("x509", "-noout", "-text", input: certificate.pem).output
        #expect(text.contains("IP Address:127.0.0.1") && text.contains("IP Address:0:0:0:0:0:0:0:1"))
        #expect(text.contains("CA:FALSE") && text.contains("Digital Signature"))
        #expect(text.contains("Serial Number"))
    }

    @Test("openssl verifies what the authorities issued, each for its purpose only")
    func opensslVerifies() async throws {
        let folder = try TemporaryFolder()
        let servers = try folder.write("servers.pem", authorities.serverCA.certificate.pem)
        let devices = try folder.write("devices.pem", authorities.deviceCA.certificate.pem)
        let server = try folder.write("server.pem", authorities.server.certificate.pem)
        let device = try folder.write("device.pem", authorities.device.certificate.pem)
        func verifies(_ purpose: String, _ authority: String, _ leaf: String) async throws -> Bool {
            try await Tool.openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority, leaf)
                .status == 0
        }
        #expect(try await verifies("sslserver", servers, server))
        #expect(try await verifies("sslclient", devices, device))
        #expect(try await !verifies("sslclient", servers, server))
        #expect(try await !verifies("sslserver", devices, device))
        #expect(try await !verifies("sslclient", servers, device))
    }

    @Test("an authority comes back from its PEMs, and only from its own")
    func authorityRoundTrip() throws {
        let authority = authorities.serverCA
        let kept = try CertificateAuthority(
            certificatePEM: authority.certificate.pem, keyPEM: authority.keyPEM)
        #expect(kept.certificate.der == authority.certificate.der)
        #expect(authority.certificate.isCA && authority.certificate.extendedKeyUsages.isEmpty)
        #expect(
            code {
                _ = try CertificateAuthority(
                    certificatePEM: authority.certificate.pem, keyPEM: authorities.deviceCA.keyPEM)
            } == .wrongType)
        let server = authorities.server
        #expect(
            code {
                _ = try CertificateAuthority(certificatePEM: server.certificate.pem, keyPEM: server.key.pem)
            } == .wrongType)
    }

    @Test("names and extensions of a request are ignored")
    func ownNames() async throws {
        let folder = try TemporaryFolder()
        let key = P256Key()
        let keyFile = try folder.write("key.pem", key.pem)
        let made = try await Tool.openssl(
            "req", "-new", "-key", keyFile, "-subj", "/CN=gateway.test/O=Somebody else", "-addext",
            "subjectAltName=DNS:gateway.test,URI:cloudrmm://d0/device/o1/another", "-addext",
            "basicConstraints=critical,CA:TRUE", "-addext", "extendedKeyUsage=serverAuth")
        #expect(made.output.contains("CERTIFICATE REQUEST"))
        let request = try CertificateRequest(pem: made.output)
        let certificate = try authorities.deviceCA.issueDevice(
            request: request, deviceURI: TestAuthorities.deviceURI)
        #expect(certificate.publicKeyHash == key.publicKeyHash)
        #expect(certificate.subjectCommonName == "a1" && certificate.uriNames == [TestAuthorities.deviceURI])
        #expect(certificate.dnsNames.isEmpty && !certificate.isCA)
        #expect(certificate.extendedKeyUsages == ["clientAuth"])
        let text = try await Tool.openssl("x509", "-noout", "-text", input: certificate.pem).output
        #expect(!text.contains("Somebody else") && !text.contains("gateway.test"))
    }

    @Test("requests for other keys are refused")
    func otherRequests() async throws {
        func request(_ algorithm: String...) async throws -> String {
            let folder = try TemporaryFolder()
            let arguments =
                ["req", "-new", "-nodes", "-keyout", folder.path + "/k.pem", "-subj", "/CN=x"] + algorithm
            return try await Tool.run("openssl", arguments).output
        }
        let rsa = try await request("-newkey", "rsa:2048")
        let p384 = try await request("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384")
        let explicit = try await request(
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit")
        for pem in [rsa, p384, explicit] {
            #expect(pem.contains("CERTIFICATE REQUEST"))
            #expect(code { _ = try CertificateRequest(pem: pem) } == .wrongType)
        }
    }

    @Test("a request that its key did not sign is refused, whichever byte was changed")
    func badSelfSignature() throws {
        let pem = try P256Key().certificateRequest(commonName: "x")
        let body = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
        let der = try #require(Data(base64Encoded: body))
        for index in stride(from: 0, to: der.count, by: 3) {
            var changed = der
            changed[index] ^= 4
            let text = changed.base64EncodedString(options: [.lineLength64Characters, .endLineWithLineFeed])
            let request = "-----BEGIN CERTIFICATE REQUEST-----\n\(text)\n-----END CERTIFICATE REQUEST-----\n"
            #expect(code { _ = try CertificateRequest(pem: request) } != nil, "byte \(index)")
        }
        var last = der
        last[der.count - 1] ^= 1
        let text = last.base64EncodedString()
        let request = "-----BEGIN CERTIFICATE REQUEST-----\n\(text)\n-----END CERTIFICATE REQUEST-----\n"
        #expect(code { _ = try CertificateRequest(pem: request) } == .badSignature)
    }

    @Test("a request may have 16 KiB and not a byte more")
    func requestLimit() throws {
        let pem = try P256Key().certificateRequest(commonName: "x")
        let padding = String(repeating: "\n", count: CertificateRequest.pemBytesMax - pem.utf8.count)
        _ = try CertificateRequest(pem: pem + padding)
        #expect(code { _ = try CertificateRequest(pem: pem + padding + "\n") } == .limit)
        #expect(code { _ = try CertificateRequest(pem: "") } == .malformed)
        #expect(code { _ = try CertificateRequest(pem: String(repeating: "\0", count: 100)) } == .malformed)
    }

    @Test("generated garbage is no certificate, request or key")
    func garbage() {
        for _ in 0..<200 {
            let text = Data(randomBytes(Int.random(in: 1..<300))).base64EncodedString()
            for kind in ["CERTIFICATE", "CERTIFICATE REQUEST", "PRIVATE KEY"] {
                let pem = "-----BEGIN \(kind)-----\n\(text)\n-----END \(kind)-----\n"
                #expect(code { _ = try Certificate(pem: pem) } == .malformed)
                #expect(code { _ = try CertificateRequest(pem: pem) } == .malformed)
                #expect(code { _ = try P256Key(pem: pem) } == .malformed)
            }
        }
    }

    @Test(
        "names that could smuggle in others are refused",
        arguments: ["a,URI:cloudrmm://x", "a b", "", "a\0b", "é.test", String(repeating: "a", count: 254)])
    func badDNSNames(name: String) {
        #expect(
            code {
                _ = try authorities.serverCA.issueServer(
                    for: P256Key(), dnsNames: [name], ipAddresses: [], validitySeconds: 60)
            } == .malformed)
    }

    @Test("addresses and URIs that are none are refused, and so is a server without a name")
    func badNames() throws {
        for addresses in [["127.0.0.256"], ["1.2.3.4\0"], ["x"], []] {
            #expect(
                code {
                    _ = try authorities.serverCA.issueServer(
                        for: P256Key(), dnsNames: [], ipAddresses: addresses, validitySeconds: 60)
                } == .malformed)
        }
        let request = try CertificateRequest(pem: P256Key().certificateRequest(commonName: "x"))
        for uri in [
            "", "https://a/b", "cloudrmm://", "cloudrmm://a/device/o/b c", "cloudrmm://a/device/o/b\n",
        ] {
            #expect(
                code { _ = try authorities.deviceCA.issueDevice(request: request, deviceURI: uri) } != nil)
        }
        #expect(
            code { _ = try P256Key().certificateRequest(commonName: String(repeating: "a", count: 65)) }
                == .limit)
        #expect(code { _ = try P256Key().certificateRequest(commonName: "") } == .limit)
    }

    @Test("a leaf does not outlive its authority")
    func leafValidity() throws {
        let authority = try CertificateAuthority.make(
            commonName: "Short", validitySeconds: 100, now: 1_800_000_000)
        let leaf = try authority.issueServer(
            for: P256Key(), dnsNames: ["a"], ipAddresses: [], validitySeconds: 1000, now: 1_800_000_000)
        #expect(leaf.notAfter == 1_800_000_100)
    }
}
