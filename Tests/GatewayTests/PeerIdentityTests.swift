import Domain
import TestSupport
import Testing
import Trust

@testable import Gateway

@Suite struct PeerIdentityTests {
    @Test("A device's certificate says who it is and until when")
    func device() throws {
        let (device, organization): (DeviceID, OrganizationID) = (fresh(), fresh())
        let made = try Identities.shared.device(device, of: organization)
        let peer = try #require(PeerIdentity(made.certificate))
        #expect(peer.device == device && peer.organization == organization)
        #expect(peer.deployment == Identities.shared.deployment)
        #expect(peer.serial == made.certificate.serial)
        #expect(peer.keyHash == made.key.publicKeyHash)
        #expect(peer.certificateEnd == Instant(seconds: made.certificate.notAfter))
    }

    @Test(
        "A certificate whose name is not wholly a device's is nobody's",
        arguments: [
            "cloudrmm://x/device/\(id)/\(id)", "cloudrmm://\(id)/device/x/\(id)",
            "cloudrmm://\(id)/device/\(id)/x", "cloudrmm://\(id)/device/\(id)/\(id)0",
            "cloudrmm://\(id)/device/\(id)/{\(id)}", "cloudrmm://d0/device/o1/a1",
        ])
    func otherNames(uri: String) throws {
        #expect(PeerIdentity(try Identities.shared.device(uri: uri).certificate) == nil)
    }

    @Test("A certificate of a server or of an authority is nobody's")
    func others() throws {
        let identities = Identities.shared
        let server = try identities.serverCA.issueServer(
            for: P256Key(), dnsNames: ["localhost"], ipAddresses: [], validitySeconds: 60)
        #expect(PeerIdentity(server) == nil)
        #expect(PeerIdentity(identities.deviceCA.certificate) == nil)
    }

    private static let id = "01890a5d-ac96-774b-bcce-b302099a8057"
}
