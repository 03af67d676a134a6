import Testing
import Trust

@Suite struct SigningTests {
    @Test("Ed25519 signs as RFC 8032 says")
    func vector() throws {
        let seed = try #require(
            Hex.decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
        let key = try SigningKey(seed: seed)
        let publicKey = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        #expect(Hex.encode(key.publicKey.bytes) == publicKey)
        let signature =
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        #expect(Hex.encode(key.sign([0x72])) == signature)
        #expect(key.publicKey.isValid(key.sign([0x72]), for: [0x72]))
        #expect(key.seed == seed)
        #expect(key.publicKey.id == Hex.encode(SHA256.hash(key.publicKey.bytes).prefix(8)))
    }

    @Test("a signature holds for its message and its key only")
    func otherMessage() {
        let key = SigningKey()
        let signature = key.sign([1, 2, 3])
        #expect(key.publicKey.isValid(signature, for: [1, 2, 3]))
        #expect(!key.publicKey.isValid(signature, for: [1, 2, 4]))
        #expect(!key.publicKey.isValid(signature, for: []))
        #expect(!SigningKey().publicKey.isValid(signature, for: [1, 2, 3]))
        #expect(!key.publicKey.isValid(Array(signature.dropLast()), for: [1, 2, 3]))
        #expect(!key.publicKey.isValid(signature + [0], for: [1, 2, 3]))
        #expect(!key.publicKey.isValid([], for: [1, 2, 3]))
    }

    @Test("a signature whose S is not reduced is refused")
    func malleability() throws {
        let key = SigningKey()
        let order = try #require(
            Hex.decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"))
        var signature = key.sign([7])
        var carry = 0
        for index in 0..<32 {
            let sum = Int(signature[32 + index]) + Int(order[index]) + carry
            signature[32 + index] = UInt8(truncatingIfNeeded: sum)
            carry = sum >> 8
        }
        #expect(carry == 0 && !key.publicKey.isValid(signature, for: [7]))
    }

    @Test(
        "public keys of small order, not reduced or of another length are refused",
        arguments: [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "", "00",
        ])
    func badKeys(text: String) throws {
        let bytes = try #require(Hex.decode(text))
        #expect(throws: TrustError.self) { try VerifyingKey(bytes: bytes) }
    }

    @Test("a seed has 32 bytes", arguments: [0, 31, 33])
    func badSeeds(count: Int) {
        #expect(throws: TrustError.self) { try SigningKey(seed: randomBytes(count)) }
    }
}

@Suite struct StatementTests {
    let key = SigningKey()
    let deployment = [UInt8](repeating: 7, count: 16)
    let organization = [UInt8](repeating: 9, count: 16)

    private var statement: Statement {
        Statement(
            type: .job, keyID: key.publicKey.id, deployment: deployment, organization: organization,
            issuedAt: 1000, expiresAt: 2000, payload: [1, 2, 3])
    }

    private func refusal(
        _ signed: SignedStatement, as type: StatementType = .job, by keys: [VerifyingKey]? = nil,
        deployment: [UInt8]? = nil, now: Int64 = 1500, organization: [UInt8]? = nil
    ) -> TrustError.Code? {
        do {
            _ = try signed.verified(
                as: type, by: keys ?? [key.publicKey], deployment: deployment ?? self.deployment, now: now,
                organization: organization)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a statement comes back as it was signed, through bytes and text")
    func roundTrip() throws {
        let signed = SignedStatement.sign(statement, with: key)
        for copy in [
            signed, try SignedStatement(encoded: signed.encoded), try SignedStatement(text: signed.text),
            SignedStatement(bytes: signed.bytes, signature: signed.signature),
        ] {
            let verified = try copy.verified(
                as: .job, by: [SigningKey().publicKey, key.publicKey], deployment: deployment, now: 1500,
                organization: organization)
            #expect(verified == statement)
        }
    }

    @Test("the signed bytes have the documented layout")
    func layout() {
        let bytes = SignedStatement.sign(statement, with: key).bytes
        let header = Array("cloudrmm.job.v1\0".utf8) + SHA256.hash(key.publicKey.bytes).prefix(8)
        let times: [UInt8] = [0, 0, 0, 0, 0, 0, 3, 0xE8] + [0, 0, 0, 0, 0, 0, 7, 0xD0]
        #expect(bytes == header + deployment + organization + times + [0, 0, 0, 3, 1, 2, 3])
    }

    @Test("every flipped bit of bytes and signature is refused")
    func bitFlips() {
        let signed = SignedStatement.sign(statement, with: key)
        for index in signed.bytes.indices {
            for bit in 0..<8 {
                var changed = signed
                changed.bytes[index] ^= 1 << bit
                #expect(refusal(changed) != nil, "byte \(index) bit \(bit)")
            }
        }
        for index in signed.signature.indices {
            for bit in 0..<8 {
                var changed = signed
                changed.signature[index] ^= 1 << bit
                #expect(refusal(changed) == .badSignature, "signature byte \(index) bit \(bit)")
            }
        }
    }

    @Test("every shorter form of a statement is refused")
    func truncation() {
        let signed = SignedStatement.sign(statement, with: key)
        for count in signed.bytes.indices {
            let short = SignedStatement(bytes: Array(signed.bytes.prefix(count)), signature: signed.signature)
            #expect(refusal(short) != nil)
        }
        for count in signed.encoded.indices {
            #expect(throws: TrustError.self) {
                try SignedStatement(encoded: Array(signed.encoded.prefix(count)))
            }
        }
        #expect(throws: TrustError.self) { try SignedStatement(encoded: signed.encoded + [0]) }
        #expect(throws: TrustError.self) { try SignedStatement(text: signed.text + "=") }
    }

    @Test("a statement signed as one type is none of another")
    func wrongType() {
        let signed = SignedStatement.sign(statement, with: key)
        for type: StatementType in [.enrolmentToken, .keySet, .assignment] {
            #expect(refusal(signed, as: type) == .wrongType)
        }
    }

    @Test("each reason to refuse has its code")
    func codes() {
        let signed = SignedStatement.sign(statement, with: key)
        let other = [UInt8](repeating: 8, count: 16)
        #expect(refusal(signed) == nil)
        #expect(refusal(signed, by: [SigningKey().publicKey]) == .unknownKey)
        #expect(refusal(signed, by: []) == .unknownKey)
        #expect(refusal(signed, deployment: other) == .wrongDeployment)
        #expect(refusal(signed, organization: other) == .wrongOrganization)
        #expect(refusal(signed, organization: organization) == nil)
        #expect(refusal(SignedStatement(bytes: [], signature: [])) == .wrongType)
    }

    @Test("validity ends at the second of expiry and begins 300 seconds before the issue")
    func validity() {
        let signed = SignedStatement.sign(statement, with: key)
        #expect(refusal(signed, now: 1999) == nil)
        #expect(refusal(signed, now: 2000) == .expired)
        #expect(refusal(signed, now: 700) == nil)
        #expect(refusal(signed, now: 699) == .notYetValid)
    }

    @Test("signed bytes of a wrong shape are malformed even under a good signature")
    func wrongShape() {
        let good = SignedStatement.sign(statement, with: key).bytes
        var reversed = statement
        (reversed.issuedAt, reversed.expiresAt) = (1600, 1600)
        for bytes in [good + [0], Array(good.dropLast()), Array(good.prefix(30))] {
            #expect(refusal(SignedStatement(bytes: bytes, signature: key.sign(bytes))) == .malformed)
        }
        #expect(refusal(SignedStatement.sign(reversed, with: key), now: 1500) == .malformed)
    }

    @Test("nothing of a statement is read before its signature holds")
    func verifiedBeforeParsed() {
        var expired = SignedStatement.sign(statement, with: key)
        expired.signature[0] ^= 1
        #expect(refusal(expired, deployment: organization, now: 5000) == .badSignature)
    }

    @Test("the key id names the key that signed, whatever the statement says")
    func keyID() throws {
        var claimed = statement
        claimed.keyID = "0000000000000000"
        let signed = SignedStatement.sign(claimed, with: key)
        let verified = try signed.verified(
            as: .job, by: [key.publicKey], deployment: deployment, now: 1500, organization: nil)
        #expect(verified.keyID == key.publicKey.id)
    }

    @Test("a payload of 4 MiB is accepted, one byte more is not")
    func payloadLimit() {
        var large = statement
        large.payload = [UInt8](repeating: 1, count: Statement.payloadBytesMax)
        #expect(refusal(SignedStatement.sign(large, with: key)) == nil)
        large.payload.append(1)
        #expect(refusal(SignedStatement.sign(large, with: key)) == .limit)
        #expect(throws: TrustError.self) {
            try SignedStatement(encoded: [UInt8](repeating: 0, count: Statement.payloadBytesMax + 513))
        }
    }

    @Test("generated garbage is refused and harms nothing")
    func garbage() {
        for _ in 0..<2000 {
            let noise = randomBytes(Int.random(in: 0..<200))
            // Most noise is refused here already, which is as good.
            if let signed = try? SignedStatement(encoded: noise) { #expect(refusal(signed) != nil) }
            let prefixed = Array("cloudrmm.job.v1\0".utf8) + noise
            #expect(refusal(SignedStatement(bytes: prefixed, signature: randomBytes(64))) != nil)
        }
    }
}

@Suite struct MerkleTests {
    private func leaves(_ count: Int) -> [[UInt8]] { (0..<count).map { [UInt8($0), 0xAA] } }

    @Test("roots are those of RFC 6962's recursion", arguments: 0...20)
    func roots(size: Int) {
        func root(_ leaves: ArraySlice<[UInt8]>) -> [UInt8] {
            guard leaves.count > 1 else {
                return leaves.first.map { SHA256.hash([0] + $0) } ?? SHA256.hash([])
            }
            var half = 1
            while half * 2 < leaves.count { half *= 2 }
            let middle = leaves.startIndex + half
            return SHA256.hash([1] + root(leaves[..<middle]) + root(leaves[middle...]))
        }
        let tree = MerkleTree(leaves: leaves(size))
        #expect(tree.root == root(leaves(size)[...]) && tree.size == size)
    }

    @Test("a proof shows its leaf at its place and nothing else", arguments: 1...20)
    func proofs(size: Int) {
        let tree = MerkleTree(leaves: leaves(size))
        for index in 0..<size {
            let (leaf, proof, root) = (leaves(size)[index], tree.proof(of: index), tree.root)
            func holds(
                leaf: [UInt8] = leaf, at place: Int = index, of count: Int = size, by path: [[UInt8]] = proof,
                under top: [UInt8] = root
            ) -> Bool { MerkleTree.isIncluded(leaf: leaf, index: place, size: count, proof: path, root: top) }
            #expect(holds())
            #expect(!holds(leaf: [UInt8(index), 0xAB]))
            for other in -1...21 where other != index { #expect(!holds(at: other)) }
            #expect(!holds(by: proof + [proof.last ?? root]))
            #expect(!holds(by: proof + [[]]))
            #expect(!holds(of: 0) && !holds(of: -1) && !holds(of: size * 2 + 1))
            #expect(!holds(under: SHA256.hash(root)))
            if !proof.isEmpty {
                #expect(!holds(by: Array(proof.dropLast())))
                var changed = proof
                changed[0][0] ^= 1
                #expect(!holds(by: changed))
            }
        }
    }

    @Test("an inner node cannot be passed off as a leaf")
    func innerNode() {
        let tree = MerkleTree(leaves: leaves(4))
        let left = SHA256.hash([0] + leaves(4)[0]) + SHA256.hash([0] + leaves(4)[1])
        let right = SHA256.hash([1] + SHA256.hash([0] + leaves(4)[2]) + SHA256.hash([0] + leaves(4)[3]))
        #expect(tree.root == SHA256.hash([1] + SHA256.hash([1] + left) + right))
        #expect(!MerkleTree.isIncluded(leaf: left, index: 0, size: 2, proof: [right], root: tree.root))
    }
}
