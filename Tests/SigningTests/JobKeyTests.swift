import Signing
import Testing
import Trust

/// Signatures of one key by two libraries.
struct JobKeyTests {
    @Test("Each message has the signature that libcrypto makes, which libcrypto verifies")
    func same() throws {
        for length in [0, 1, 31, 64, 127, 128, 400, 4_096, 65_536] {
            let (key, message) = (SigningKey(), randomBytes(length))
            let signature = JobKey(key).sign(message)
            #expect(signature == key.sign(message), "\(length)")
            #expect(JobKey(key).publicKey == key.publicKey)
            #expect(key.publicKey.isValid(signature, for: message))
            #expect(!key.publicKey.isValid(signature, for: message + [0]))
        }
    }

    @Test("The signatures are those of RFC 8032, 7.1")
    func vectors() throws {
        for (seed, publicKey, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                    + "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                    + "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ] {
            let key = JobKey(try SigningKey(seed: #require(Hex.decode(seed))))
            #expect(Hex.encode(key.publicKey.bytes) == publicKey)
            #expect(Hex.encode(key.sign(try #require(Hex.decode(message)))) == signature)
        }
    }
}
