import CHiredis

/// Owns hiredis' parser of replies; used by one thread.
///
/// The parser calls back for every value it has read, and the callbacks build the `RedisValue` at once: no
/// second tree of C objects, and an array that announces a thousand million elements allocates nothing before
/// they come. hiredis itself refuses replies nested deeper than eight arrays.
@safe
final class ReplyReader {
    private let reader: UnsafeMutablePointer<redisReader>
    private let assembly: ReplyAssembly
    private let bytesMax: Int

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
        assembly = ReplyAssembly(budget: bytesMax)
        unsafe reader = redisReaderCreateWithFunctions(ReplyAssembly.callbacks)!
        unsafe reader.pointee.privdata = Unmanaged.passUnretained(assembly).toOpaque()
    }

    deinit { unsafe redisReaderFree(reader) }

    /// Takes over bytes that have arrived.
    func feed(_ bytes: ArraySlice<UInt8>) {
        unsafe bytes.withUnsafeBytes { raw in
            // An error sticks to the reader and is thrown by `next`.
            _ = unsafe redisReaderFeed(
                reader, raw.baseAddress?.assumingMemoryBound(to: CChar.self), raw.count)
        }
    }

    /// The next whole reply; nil when more bytes are needed. After an error the reader is of no more use.
    func next() throws(RedisError) -> RedisValue? {
        var object: UnsafeMutableRawPointer?
        let code = unsafe redisReaderGetReply(reader, &object)
        let unread = unsafe Int(reader.pointee.len) - Int(reader.pointee.pos)
        let isIncomplete = unsafe code == REDIS_OK && object == nil
        if assembly.isOverBudget || isIncomplete && unread > bytesMax {
            throw RedisError(.protocolViolation, "a reply is over the limit of \(bytesMax) bytes")
        }
        guard code == REDIS_OK else {
            let text = unsafe withUnsafeBytes(of: reader.pointee.errstr) { raw in
                unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            throw RedisError(.protocolViolation, "the server does not speak RESP: \(text)")
        }
        return isIncomplete ? nil : assembly.take()
    }
}

/// The reply that is being read: the arrays that are still open, outermost first.
private final class ReplyAssembly {
    /// hiredis passes each callback the task with our `privdata`; any non-null return value means "go on".
    nonisolated(unsafe) static let callbacks: UnsafeMutablePointer<redisReplyObjectFunctions> = {
        let table = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        unsafe table.initialize(
            to: redisReplyObjectFunctions(
                createString: { task, bytes, count in
                    let raw = unsafe UnsafeRawBufferPointer(start: bytes, count: count)
                    return unsafe ReplyAssembly.add(task, bytes: count) { type in
                        switch type {
                        case REDIS_REPLY_STATUS: .status(unsafe String(decoding: raw, as: UTF8.self))
                        case REDIS_REPLY_ERROR: .error(unsafe String(decoding: raw, as: UTF8.self))
                        default: .string(unsafe Array(raw))
                        }
                    }
                },
                createArray: { task, count in
                    unsafe ReplyAssembly.of(task).open(count: Int(count)) ? task?.pointee.privdata : nil
                },
                createInteger: { task, value in unsafe ReplyAssembly.add(task) { _ in .integer(value) } },
                createNil: { task in unsafe ReplyAssembly.add(task) { _ in .null } },
                freeObject: { _ in }))
        return unsafe table
    }()

    private(set) var isOverBudget = false
    private let budget: Int
    private var spent = 0
    private var open: [(elements: [RedisValue], missing: Int)] = []
    private var whole = RedisValue.null

    init(budget: Int) {
        self.budget = budget
    }

    /// The finished reply; the next one begins.
    func take() -> RedisValue {
        defer { (whole, spent) = (.null, 0) }
        return whole
    }

    private static func of(_ task: UnsafePointer<redisReadTask>?) -> ReplyAssembly {
        unsafe Unmanaged<ReplyAssembly>.fromOpaque(task!.pointee.privdata).takeUnretainedValue()
    }

    private static func add(
        _ task: UnsafePointer<redisReadTask>?, bytes: Int = 0, value: (Int32) -> RedisValue
    ) -> UnsafeMutableRawPointer? {
        let assembly = unsafe of(task)
        guard assembly.spend(bytes) else { return nil }
        assembly.place(value(unsafe task!.pointee.type))
        return unsafe task?.pointee.privdata
    }

    private func open(count: Int) -> Bool {
        guard spend(0) else { return false }
        if count == 0 {
            place(.array([]))
        } else {
            open.append((elements: [], missing: count))
        }
        return true
    }

    private func spend(_ bytes: Int) -> Bool {
        spent += bytes + 32
        isOverBudget = spent > budget
        return !isOverBudget
    }

    /// Puts a value where it belongs, and closes the arrays that it completes.
    private func place(_ value: RedisValue) {
        var value = value
        while let last = open.indices.last {
            open[last].elements.append(value)
            open[last].missing -= 1
            if open[last].missing > 0 { return }
            value = .array(open.removeLast().elements)
        }
        whole = value
    }
}
