/// What was posted to a connection's thread, and who sees to it.
struct Mailbox {
    enum Life { case created, running, ended }

    /// What the thread finds when it looks.
    struct Mail {
        var exchanges: [Exchange] = []
        var dropsConnection = false
        var isClosing = false
    }

    enum Watch {
        /// The thread looks before it sleeps, or somebody has been told to write.
        case someone
        /// The thread sleeps: whoever posts has to write, or to wake it.
        case nobody
        /// The thread sleeps, and a task at the end of the pool's queue will write.
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

    /// Takes an exchange. In company the first who posts promises that all of it is written, and whoever
    /// makes half of what is under way whole writes that: the server works on one half while the callers of
    /// the other go on.
    mutating func post(_ exchange: Exchange, underWay: Int) -> Errand {
        guard life == .running, !mail.isClosing else { return .refuse }
        mail.exchanges.append(exchange)
        posted += exchange.commands.count
        switch watch {
        case .nobody where hasCompany:
            watch = .promised
            return .promise
        case .promised where posted < max(Self.partMin, underWay / 2), .someone: return .nothing
        case .nobody, .promised:
            watch = .someone
            return .write
        }
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
