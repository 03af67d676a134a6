private import CZlib

/// Text made smaller for those who can read it so (RFC 1952), by zlib.
package enum Gzip {
    /// zlib's scale goes from 1, fast, to 9: this is where JSON stops getting much smaller.
    private static let level: Int32 = 4
    /// zlib.h: the largest window, and 16 for a header and a trailer of gzip.
    private static let windowBits: Int32 = 15 + 16
    /// zlib.h: the default of the memory for its state.
    private static let memoryLevel: Int32 = 8

    /// The bytes as one member of gzip; `nil` if zlib refuses, which it does only without memory, or for more
    /// than 1 GiB.
    package static func compress(_ bytes: [UInt8]) -> [UInt8]? {
        guard bytes.count <= 1 << 30 else { return nil }
        var stream = unsafe z_stream()
        let begun = unsafe deflateInit2_(
            &stream, level, Z_DEFLATED, windowBits, memoryLevel, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        guard begun == Z_OK else { return nil }
        defer { _ = unsafe deflateEnd(&stream) }
        // zlib.h: with room for deflateBound, one call with Z_FINISH takes everything.
        let bound = Int(unsafe deflateBound(&stream, UInt(bytes.count)))
        var source = bytes
        var ended = Z_OK
        let compressed = unsafe [UInt8](unsafeUninitializedCapacity: bound) { output, count in
            unsafe source.withUnsafeMutableBufferPointer { input in
                unsafe stream.next_in = input.baseAddress
                unsafe stream.avail_in = UInt32(input.count)
                unsafe stream.next_out = output.baseAddress
                unsafe stream.avail_out = UInt32(output.count)
                ended = unsafe deflate(&stream, Z_FINISH)
                count = unsafe bound - Int(stream.avail_out)
            }
        }
        return ended == Z_STREAM_END ? compressed : nil
    }
}
