import Testing

@testable import Access

struct SignInSubjectTests {
    @Test("Failures are counted by what one caller has: an address of IPv4, 64 bits of IPv6")
    func subjects() {
        func same(_ one: String?, _ other: String?) -> Bool {
            SignIn.subject("address", one) == SignIn.subject("address", other)
        }
        #expect(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"))
        #expect(!same("2001:db8:1:2::1", "2001:db8:1:3::1"))
        #expect(same("192.0.2.1", "::ffff:192.0.2.1") && !same("192.0.2.1", "192.0.2.2"))
        #expect(same(nil, nil) && !same(nil, "192.0.2.1"))
        #expect(SignIn.subject("address", "192.0.2.1") != SignIn.subject("oidc", "192.0.2.1"))
    }
}
