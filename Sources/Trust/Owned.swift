import COpenSSL
import Glibc

/// The owner of one object of the C library: adopted at birth, freed at the end, the pointer stays in this
/// room.
///
/// Sendable because the objects that are shared between threads (keys, certificates, contexts) are only read
/// after they are built, and the library counts their references atomically.
@safe final class Owned: @unchecked Sendable {
    let pointer: OpaquePointer
    private let release: (OpaquePointer?) -> Void

    /// Adopts `pointer`; nil is the library's failure to `action`.
    init(
        _ pointer: OpaquePointer?, _ release: @escaping (OpaquePointer?) -> Void,
        _ action: String, as code: TrustError.Code = .library, file: String = #fileID, line: Int = #line
    ) throws(TrustError) {
        guard let pointer = unsafe pointer else {
            throw TrustError.openSSL(code, "cannot \(action)", file: file, line: line)
        }
        unsafe self.pointer = pointer
        unsafe self.release = release
    }

    deinit { unsafe release(pointer) }
}

/// Throws what the library has to say unless `result` is 1, its only success.
func check(
    _ result: Int32, _ action: String, as code: TrustError.Code = .library, file: String = #fileID,
    line: Int = #line
) throws(TrustError) {
    if result != 1 { throw TrustError.openSSL(code, "cannot \(action)", file: file, line: line) }
}

/// A memory BIO as the way in and out of the library's PEM functions.
@safe struct MemoryBIO {
    private let bio: Owned

    /// An empty BIO, or one that holds `text`.
    init(_ text: String = "") throws(TrustError) {
        bio = try unsafe Owned(BIO_new(BIO_s_mem()), BIO_free_all, "make a buffer")
        let bytes = Array(text.utf8)
        if !bytes.isEmpty {
            let written = unsafe BIO_write(bio.pointer, bytes, Int32(bytes.count))
            try check(written == Int32(bytes.count) ? 1 : 0, "fill a buffer")
        }
    }

    var pointer: OpaquePointer { unsafe bio.pointer }

    /// Everything written so far.
    func text() -> String {
        var bytes = [UInt8](repeating: 0, count: Int(unsafe crmm_BIO_pending(bio.pointer)))
        let count = unsafe BIO_read(bio.pointer, &bytes, Int32(bytes.count))
        return String(decoding: bytes.prefix(Int(max(0, count))), as: UTF8.self)
    }
}

/// The DER form that one of the library's `i2d` functions writes.
func derBytes(_ encode: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32) throws(TrustError)
    -> [UInt8]
{
    let count = encode(nil)
    guard count > 0 else { throw TrustError.openSSL(.library, "cannot encode as DER") }
    var bytes = [UInt8](repeating: 0, count: Int(count))
    unsafe bytes.withUnsafeMutableBufferPointer { buffer in
        var cursor = buffer.baseAddress
        _ = unsafe encode(&cursor)
    }
    return bytes
}

/// The system's clock in whole seconds since 1970.
package func systemSeconds() -> Int64 { Int64(time(nil)) }
