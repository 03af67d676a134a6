import Glibc
import Synchronization

/// A place on the path of a job at which a process may be made to die or to freeze, for tests of what the
/// others make of that.
///
/// A program under test is started with `CLOUDRMM_FAULT=POINT:ACTION:PASSAGE`, as in
/// `dispatcher.afterMark:kill:3`: at the third passage of that point it sends itself SIGKILL (`kill`) or
/// SIGSTOP (`stop`), once. It does so only if `CLOUDRMM_FAULTS_ALLOWED` is `yes` as well; a fault without
/// that, or one that cannot be read, is refused before anything starts. Neither is a setting: no file can
/// say them. Where nothing was armed, a passage costs one load.
package enum FaultPoint: String, CaseIterable, Sendable {
    /// The API: before and after the commit of accepted jobs, and after the queue was told of them.
    case apiBeforeCommit = "api.beforeCommit"
    case apiAfterCommit = "api.afterCommit"
    case apiAfterEnqueue = "api.afterEnqueue"
    /// The dispatcher: between the steps of claim, mark, inbox and acknowledgement.
    case dispatcherAfterClaim = "dispatcher.afterClaim"
    case dispatcherBeforeMark = "dispatcher.beforeMark"
    case dispatcherAfterMark = "dispatcher.afterMark"
    case dispatcherAfterInbox = "dispatcher.afterInbox"
    case dispatcherBeforeAcknowledge = "dispatcher.beforeAcknowledge"
    /// The dispatcher: runs of absent devices are `waiting`, and their claims are not acknowledged.
    case dispatcherAfterWaiting = "dispatcher.afterWaiting"
    /// The gateway: letters were read; attempts were sent; a result has come in.
    case gatewayAfterRead = "gateway.afterRead"
    case gatewayAfterSend = "gateway.afterSend"
    case gatewayAfterResult = "gateway.afterResult"
    /// The gateway: around the commit of results, and after their acknowledgement, before the queue is told.
    case gatewayBeforeCommit = "gateway.beforeCommit"
    case gatewayAfterCommit = "gateway.afterCommit"
    case gatewayBeforeAcknowledge = "gateway.beforeAcknowledge"
    case gatewayAfterAcknowledge = "gateway.afterAcknowledge"
    /// The agent: around the journal's record of an acceptance; the start is durable and nothing runs yet;
    /// the script has ended and nothing of it is stored; the result is stored and not sent.
    case agentBeforeJournal = "agent.beforeJournal"
    case agentAfterJournal = "agent.afterJournal"
    case agentBeforeExecution = "agent.beforeExecution"
    case agentAfterExecution = "agent.afterExecution"
    case agentBeforeUpload = "agent.beforeUpload"
    /// A pool of tasks: claimed and not marked; marked, the claim not acknowledged; the handler begins, and
    /// has returned; its outcome is to be committed; that is committed, and the queue is not told.
    case poolAfterClaim = "pool.afterClaim"
    case poolAfterMark = "pool.afterMark"
    case poolBeforeEffect = "pool.beforeEffect"
    case poolAfterEffect = "pool.afterEffect"
    case poolBeforeCommit = "pool.beforeCommit"
    case poolAfterCommit = "pool.afterCommit"
    /// Upkeep of tasks: deadlines are judged, and the queue is not told.
    case tasksMidDeadlines = "tasks.midDeadlines"
    /// Upkeep, between what was committed and what the queue hears of it.
    case refillerMidBatch = "refiller.midBatch"
    case reconcilerMidDeadlines = "reconciler.midDeadlines"
    case reconcilerMidExpansion = "reconciler.midExpansion"
    case reconcilerMidBurial = "reconciler.midBurial"
    /// Each step of a rebuild.
    case rebuilderMidWay = "rebuilder.midWay"
    /// A step of the schema was applied and is not noted yet.
    case migratorMidStep = "migrator.midStep"

    /// A passage: where this point is armed and its time has come, the process dies or freezes here.
    @inline(__always)
    package static func reach(_ point: FaultPoint) {
        if isArmed.load(ordering: .relaxed) { strike(point) }
    }

    /// Arms what the variables of the process say, which `variable` reads; to be called once, first of all.
    package static func arm(from variable: (String) -> String?) throws(FaultRefusal) {
        guard let fault = try Fault(from: variable) else { return }
        armed.withLock { $0 = fault }
        isArmed.store(true, ordering: .relaxed)
    }

    @inline(never)
    private static func strike(_ point: FaultPoint) {
        let action = armed.withLock { fault -> Fault.Action? in
            guard fault?.strikes(at: point) == true else { return nil }
            return fault?.action
        }
        // To this very thread: it does not take one step more.
        switch action {
        case .kill?: raise(SIGKILL)
        case .stop?: raise(SIGSTOP)
        case nil: break
        }
    }
}

private let isArmed = Atomic<Bool>(false)
private let armed = Mutex<Fault?>(nil)

/// What is to happen, where and when.
package struct Fault: Sendable, Equatable {
    /// What a process does to itself.
    package enum Action: String, Sendable { case kill, stop }

    /// The variable that says the fault, and the one without which it is refused.
    package static let variable = "CLOUDRMM_FAULT"
    package static let permission = "CLOUDRMM_FAULTS_ALLOWED"

    /// Where, what, and at which passage; none after it.
    package let point: FaultPoint
    package let action: Action
    private var passages: Int

    /// The fault that variables say, if there is one.
    package init?(from variable: (String) -> String?) throws(FaultRefusal) {
        guard let text = variable(Self.variable), !text.isEmpty else { return nil }
        guard variable(Self.permission) == "yes" else {
            throw FaultRefusal(
                description: "\(Self.variable) is set; it is for tests, and only with \(Self.permission)=yes")
        }
        let words = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 3, let point = FaultPoint(rawValue: words[0]),
            let action = Action(rawValue: words[1]), let passage = Int(words[2]), passage > 0
        else {
            let points = FaultPoint.allCases.map(\.rawValue).joined(separator: ", ")
            throw FaultRefusal(
                description: """
                    \(Self.variable) is POINT:kill:PASSAGE or POINT:stop:PASSAGE with a passage from 1; \
                    points are \(points)
                    """)
        }
        (self.point, self.action, passages) = (point, action, passage)
    }

    /// Notes a passage; whether it is the one.
    package mutating func strikes(at point: FaultPoint) -> Bool {
        guard point == self.point else { return false }
        passages -= 1
        return passages == 0
    }
}

/// Why a fault is not armed.
package struct FaultRefusal: Error, CustomStringConvertible {
    /// One sentence.
    package let description: String
}
