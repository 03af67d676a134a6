/// What was posted to a connection's thread, and who sees to it.
struct Mailbox {
    enum Life {
        /// Nothing was sent yet. Left by the first caller, or by the owner who closes.
        case created
        /// The thread takes what is posted. Left when the owner closes and what was under way has ended.
        case running
        /// Nobody takes anything. Final.
        case ended
    }

    /// What the thread finds when it looks.
    struct Mail {
        var exchanges: [Exchange] = []
        var dropsConnection = false
        var isClosing = false
    }

    enum Watch {
        /// The thread looks before it sleeps, or somebody has been told to write. Left by `fallAsleep`.
        case someone
        /// The thread sleeps: whoever posts has to write, or to wake it. Left by the first who does.
        case nobody
        /// The thread sleeps, and a task at the end of the pool's queue will write. Left by that task, by
        /// whoever writes before it, or by the thread, which looks soon.
        case promised
    }

    /// What whoever has posted has to do.
    enum Errand {
        case nothing, write, promise
        /// The connection is closed; nothing was posted.
        case refuse
    }

    /// So many commands of company are worth a write of their own.
    private static let partMin = 16

    var life = Life.created
    var mail = Mail()
    var watch = Watch.someone
    /// Whether several callers had their answers together, a moment ago.
    var hasCompany = false
    var closers: [CheckedContinuation<Void, Never>] = []
    /// Commands in the mail.
    private var posted = 0

    /// Takes an exchange. In company the first who posts promises that all is written after the others have
    /// posted, and whoever completes half of what is under way writes that: the server works on one half
    /// while the callers of the other go on.
    mutating func post(_ exchange: Exchange, underWay: Int) -> Errand {
        guard life == .running, !mail.isClosing else { return .refuse }
        mail.exchanges.append(exchange)
        posted += exchange.commands.count
        let isPart = posted >= max(Self.partMin, underWay / 2)
        switch watch {
        case .nobody where hasCompany && !isPart:
            watch = .promised
            return .promise
        case .promised where !isPart, .someone: return .nothing
        case .nobody, .promised:
            watch = .someone
            return .write
        }
    }

    /// Whether what was promised is still to be written, which then nobody else has to do.
    mutating func keepsPromise() -> Bool {
        guard case .promised = watch else { return false }
        watch = .someone
        return true
    }

    /// Whether the thread has to be woken, which then nobody else has to do.
    mutating func wakes() -> Bool {
        defer { watch = .someone }
        return watch != .someone
    }

    mutating func collect() -> Mail {
        watch = .someone
        posted = 0
        defer {
            mail.exchanges = []
            mail.dropsConnection = false
        }
        return mail
    }

    /// The thread is about to wait; false when there is mail that it has not seen.
    mutating func fallAsleep(seenClosing: Bool) -> Bool {
        let isEmpty = mail.exchanges.isEmpty && !mail.dropsConnection && mail.isClosing == seenClosing
        watch = isEmpty ? .nobody : .someone
        return isEmpty
    }
}
