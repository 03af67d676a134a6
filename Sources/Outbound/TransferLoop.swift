import CCurl
import Glibc
import Synchronization

/// The thread that owns one libcurl multi handle and drives every transfer of a client.
///
/// Callers put commands into a mailbox and wake the thread; everything of libcurl but `curl_multi_wakeup`
/// happens on the thread. It ends at `close`, when it fails what is under way and frees the handle.
@safe final class TransferLoop: @unchecked Sendable {
    /// What callers ask the thread to do.
    enum Command {
        case start(Transfer)
        case cancel(UInt64)
        case resume(UInt64)
    }

    /// The most requests under way in a client; more are refused.
    static let transfersMax = 16_384
    /// The most connections to one host; more requests wait for a free one.
    static let connectionsPerHostMax = 256

    private struct Mailbox {
        var commands: [Command] = []
        var underWay = 0
        var isClosing = false
        /// Set once the thread no longer looks here; the multi handle may be gone then.
        var isClosed = false
    }

    private static let isLibraryReady = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    private let mailbox = Mutex(Mailbox())
    private let lastID = Atomic<UInt64>(0)
    private let multi: UnsafeMutableRawPointer?
    private var transfers: [UInt64: Transfer] = [:]

    init() {
        unsafe multi = Self.isLibraryReady ? curl_multi_init() : nil
        guard unsafe multi != nil else {
            mailbox.withLock { $0.isClosed = true }
            return
        }
        unsafe crmm_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, Self.connectionsPerHostMax)
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(self)
        let result = unsafe pthread_create(
            &thread, nil,
            { context in
                unsafe Unmanaged<TransferLoop>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            unsafe context.release()
            unsafe curl_multi_cleanup(multi)
            mailbox.withLock { $0.isClosed = true }
            return
        }
        pthread_detach(thread)
    }

    /// A number for the next transfer; never 0.
    func nextID() -> UInt64 { lastID.add(1, ordering: .relaxed).newValue }

    /// Hands a command to the thread. A transfer that cannot be taken fails at once.
    func submit(_ command: Command) {
        let refusal = mailbox.withLock { mailbox -> OutboundError? in
            guard !mailbox.isClosing, !mailbox.isClosed else {
                return OutboundError(.cancelled, "the client is closed")
            }
            if case .start = command {
                guard mailbox.underWay < Self.transfersMax else {
                    return OutboundError(.connection, "more than \(Self.transfersMax) requests are under way")
                }
                mailbox.underWay += 1
            }
            mailbox.commands.append(command)
            unsafe curl_multi_wakeup(multi)
            return nil
        }
        if let refusal, case .start(let transfer) = command { transfer.fail(refusal) }
    }

    /// Ends the thread soon; returns at once.
    func close() {
        mailbox.withLock { mailbox in
            guard !mailbox.isClosing, !mailbox.isClosed else { return }
            mailbox.isClosing = true
            unsafe curl_multi_wakeup(multi)
        }
    }
}

// MARK: On the thread

extension TransferLoop {
    private func run() {
        // OpenSSL writes without MSG_NOSIGNAL, and signals belong to the process's own threads.
        var signals = sigset_t()
        unsafe sigfillset(&signals)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        while takeCommands() {
            var running: Int32 = 0
            unsafe curl_multi_perform(multi, &running)
            settleFinished()
            let waitMilliseconds = expireSilent()
            unsafe curl_multi_poll(multi, nil, 0, waitMilliseconds, nil)
        }
        for transfer in transfers.values {
            end(transfer) { $0.fail(OutboundError(.cancelled, "the client is closed")) }
        }
        mailbox.withLock { mailbox in
            mailbox.isClosed = true
            unsafe curl_multi_cleanup(multi)
        }
    }

    /// Does what the mailbox asks; false when the thread has to end.
    private func takeCommands() -> Bool {
        let (commands, isClosing) = mailbox.withLock { mailbox in
            defer { mailbox.commands = [] }
            return (mailbox.commands, mailbox.isClosing)
        }
        for command in commands {
            switch command {
            case .start(let transfer):
                start(transfer)
            case .cancel(let id):
                guard let transfer = transfers[id] else { continue }
                end(transfer) { $0.fail(OutboundError(.cancelled, "the request was cancelled")) }
            case .resume(let id):
                transfers[id]?.resume()
            }
        }
        return !isClosing
    }

    private func start(_ transfer: Transfer) {
        transfers[transfer.id] = transfer
        do {
            let easy = try unsafe transfer.prepare()
            let tag = unsafe UnsafeMutableRawPointer(bitPattern: UInt(transfer.id))
            unsafe crmm_curl_set_pointer(easy, CURLOPT_PRIVATE, tag)
            unsafe curl_multi_add_handle(multi, easy)
        } catch {
            end(transfer) { $0.fail(error) }
        }
    }

    private func end(_ transfer: Transfer, settle: (Transfer) -> Void) {
        transfers[transfer.id] = nil
        mailbox.withLock { $0.underWay -= 1 }
        if let easy = unsafe transfer.handle { unsafe curl_multi_remove_handle(multi, easy) }
        settle(transfer)
    }

    private func settleFinished() {
        var left: Int32 = 0
        while let message = unsafe curl_multi_info_read(multi, &left) {
            guard unsafe message.pointee.msg == CURLMSG_DONE else { continue }
            // The message is gone once its handle is removed: take what is needed first.
            let result = unsafe crmm_curl_message_result(message)
            var tag: UnsafeMutableRawPointer?
            unsafe crmm_curl_get_pointer(message.pointee.easy_handle, CURLINFO_PRIVATE, &tag)
            guard let transfer = transfers[UInt64(UInt(bitPattern: tag))] else { continue }
            end(transfer) { $0.finish(result) }
        }
    }

    /// Ends streams that have been silent for too long; how long to wait at most before looking again.
    private func expireSilent() -> Int32 {
        let now = ContinuousClock.now
        var next = now.advanced(by: .seconds(60))
        for transfer in transfers.values {
            guard let deadline = transfer.silenceDeadline else { continue }
            if deadline <= now {
                end(transfer) { $0.fail(OutboundError(.timeout, "the stream was silent for too long")) }
            } else {
                next = min(next, deadline)
            }
        }
        let (seconds, attoseconds) = (next - now).components
        return Int32(seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
    }
}
