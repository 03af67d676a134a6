/// What a run waits for, or where it is if it waits for nothing: the word of an explanation.
///
/// Of several causes that hold at the same time the earlier case here is named and the others stand beside
/// it, except that a run which waits for its time or for its device is told so first: nobody need lift a
/// pause for what starts tomorrow.
package enum WaitCause: String, Sendable, CaseIterable {
    /// It has ended.
    case ended
    /// Its device works on it.
    case running
    /// Somebody asked to cancel it.
    case cancelling
    /// Its time to be sent has passed; it is about to be ended.
    case expiring
    /// Its job starts later.
    case notBefore
    /// An attempt has ended and another one follows after the backoff.
    case retryBackoff
    /// Its device fell silent in the middle of an attempt and has to say how that ended.
    case deviceSilent
    /// A pause of the platform over all organizations, kinds and priorities: the kill switch.
    case everythingPaused
    /// A pause of its organization as a whole.
    case organizationPaused
    /// A pause of its kind of work, in one organization or in all.
    case kindPaused
    /// A pause of its priority, in one organization or in all.
    case priorityPaused
    /// A pause of its job.
    case jobPaused
    /// Its wave of the rollout has not been released.
    case waveNotReleased
    /// A worker holds it and takes it to its device's gateway.
    case beingDispatched
    /// Its device has no session.
    case deviceOffline
    /// Its device is connected again; the run is about to be queued.
    case deviceReturned
    /// Its device has as many runs in the lane as it may, or works on another one in it.
    case laneBusy
    /// Its organization has as many runs on devices as it may.
    case organizationCap
    /// Limits on what runs, finer than the organization's.
    case jobCap, siteCap, kindCap, deviceCap, deviceLaneCap
    /// Its organization has started as many runs as it may in this time.
    case rateLimit
    /// A worker gave it back; it may be claimed again soon.
    case setBack
    /// Its device has it and has not said that it started.
    case notStarted
    /// Nothing but the work in front of it.
    case turn

    /// Where runs with this cause are, in the words of a count: `3 wait for …`.
    package func counted(_ count: Int) -> String {
        func verb(_ singular: String, _ plural: String, _ rest: String) -> String {
            "\(count) \(count == 1 ? singular : plural) \(rest)"
        }
        func waiting(_ rest: String) -> String { verb("waits", "wait", rest) }
        return switch self {
        case .ended: verb("has", "have", "ended")
        case .running: verb("is", "are", "running")
        case .cancelling: verb("is", "are", "being cancelled")
        case .expiring: verb("has", "have", "expired")
        case .notBefore: waiting("for the job's time to start")
        case .retryBackoff: waiting("for the backoff before another attempt")
        case .deviceSilent: waiting("for the word of a device that fell silent")
        case .everythingPaused: verb("is", "are", "held back by the pause of everything")
        case .organizationPaused: verb("is", "are", "held back by the organization's pause")
        case .kindPaused: verb("is", "are", "held back by a pause of the kind")
        case .priorityPaused: verb("is", "are", "held back by a pause of the priority")
        case .jobPaused: verb("is", "are", "held back by the job's pause")
        case .waveNotReleased: waiting("for a wave that is not released")
        case .beingDispatched: verb("is", "are", "on the way to a device")
        case .deviceOffline: waiting("for a device that is offline")
        case .deviceReturned: verb("is", "are", "about to be queued for a device that came back")
        case .laneBusy: waiting("for a device that is busy with other runs")
        case .organizationCap: waiting("for room under the organization's cap")
        case .jobCap: waiting("for room under the job's cap")
        case .siteCap: waiting("for room under the site's cap")
        case .kindCap: waiting("for room under the kind's cap")
        case .deviceCap: waiting("for room under the device's cap")
        case .deviceLaneCap: waiting("for room under the cap of a device's lane")
        case .rateLimit: waiting("for the organization's rate limit")
        case .setBack: verb("was given back and waits", "were given back and wait", "to be claimed again")
        case .notStarted: verb("was", "were", "sent and not started yet")
        case .turn: waiting("for a turn in the queue")
        }
    }
}
