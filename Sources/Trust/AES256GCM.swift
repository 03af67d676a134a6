import COpenSSL

/// AES-256 in Galois/Counter Mode (NIST SP 800-38D) with nonces of 12 and tags of 16 bytes.
enum AES256GCM {
    static let keyByteCount = 32
    static let nonceByteCount = 12
    static let tagByteCount = 16

    /// Ciphertext and tag. No two calls may have the same key and nonce.
    static func seal(
        _ plaintext: SecretBytes, key: SecretBytes, nonce: [UInt8], associated: [UInt8]
    ) throws(TrustError) -> [UInt8] {
        let context = try start(key: key, nonce: nonce, seals: true)
        var ciphertext = [UInt8](repeating: 0, count: plaintext.count)
        var tag = [UInt8](repeating: 0, count: tagByteCount)
        var count: Int32 = 0
        let isSealed =
            unsafe EVP_CipherUpdate(
                context.pointer, nil, &count, associated, Int32(associated.count)) == 1
            && EVP_CipherUpdate(
                context.pointer, &ciphertext, &count, plaintext.address, Int32(plaintext.count)) == 1
            && count == Int32(plaintext.count)
            // The mode is a stream: nothing is left for the end, which only makes the tag.
            && EVP_CipherFinal_ex(context.pointer, nil, &count) == 1
            && EVP_CIPHER_CTX_ctrl(context.pointer, EVP_CTRL_AEAD_GET_TAG, Int32(tag.count), &tag) == 1
        try check(isSealed ? 1 : 0, "seal")
        return ciphertext + tag
    }

    /// The plaintext of ciphertext and tag; throws `badSeal` unless the tag is that of all that is given.
    static func open(
        _ sealed: [UInt8], key: SecretBytes, nonce: [UInt8], associated: [UInt8]
    ) throws(TrustError) -> SecretBytes {
        guard sealed.count >= tagByteCount else { throw TrustError(.malformed, "there is no tag") }
        let context = try start(key: key, nonce: nonce, seals: false)
        let ciphertext = Array(sealed.dropLast(tagByteCount))
        var tag = Array(sealed.suffix(tagByteCount))
        return try unsafe SecretBytes(count: ciphertext.count) { buffer throws(TrustError) in
            var count: Int32 = 0
            let isOpened =
                unsafe EVP_CipherUpdate(
                    context.pointer, nil, &count, associated, Int32(associated.count)) == 1
                && EVP_CipherUpdate(
                    context.pointer, buffer.baseAddress, &count, ciphertext, Int32(ciphertext.count)) == 1
                && EVP_CIPHER_CTX_ctrl(context.pointer, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), &tag) == 1
                && EVP_CipherFinal_ex(context.pointer, nil, &count) == 1
            try check(isOpened ? 1 : 0, "open what is sealed", as: .badSeal)
        }
    }

    private static func start(
        key: SecretBytes, nonce: [UInt8], seals: Bool
    ) throws(TrustError) -> Owned {
        precondition(key.count == keyByteCount && nonce.count == nonceByteCount)
        let context = try unsafe Owned(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free, "make a cipher")
        try check(
            unsafe EVP_CipherInit_ex(
                context.pointer, EVP_aes_256_gcm(), nil, key.address, nonce, seals ? 1 : 0), "start a cipher")
        return context
    }
}
