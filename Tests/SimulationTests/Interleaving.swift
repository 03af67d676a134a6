/// What the protocols of the queue have to stand, each by its name. `Simulation.md` of Streams tells them.
enum Interleaving: String, CaseIterable, Comparable {
    // The path of a run.
    case deathBetweenCommitAndEnqueue, deathAfterClaim, deathAfterMark, deathAfterInbox
    case committedAsWaiting, deviceComesWhileCommitted
    case claimReplyLost, markReplyLost, inboxReplyLost, acknowledgeReplyLost, commitReplyLost
    case lateCommitBelowLowWater
    case leaseLapsesUnderPause, leaseLostBeforeAcknowledge, secondClaimRefused
    case staleEntryRefused, endedWhileClaimed, pausedWhileClaimed, expiredWhileClaimed
    case higherGenerationReplaces
    case resultOvertakesAcknowledge

    // Results.
    case duplicateResult, lateResult, outcomeAmended, retryIsAnotherAttempt
    case expiredUnsent, unknownAfterSilence, cancelledAfterSilence
    case cancelUnsent, cancelBeatsCompletion, completionBeatsCancel, cancelOvertakesDispatch

    // Hellos and presence.
    case sameAttemptResent, heldIsDropped, journalRegressed
    case deviceComesWhileParked, wokenByHello, wokenByWorker
    case successorKeepsPresence, halfOpenRefused, republishRefused, sessionReplacedHere
    case helloBringsPresenceBack
    case heartbeatLapsesAfterClaim, gatewayDiesWithLetters, newIncarnation, inboxFull
    case absentMeansLater

    // The data set.
    case lostBeforeMark, lostBeforeAcknowledge, lostSecond, rebuildDies, rebuildOvertaken
    case refusedAtMemoryLimit, clockBackwards, clockForwards

    // Refill and upkeep.
    case markedAdmitsNothing, windowFull, parkedUntilRoom, markedDuringRefill, stragglersMarked
    case membershipRemoved, membershipAdded, undeliveredByDeadline
    case bellTakenByTheDead

    // Pauses.
    case everythingPaused, priorityPaused, queuePaused, gateClosed, heldWhileClaimed, heldPassedBy

    // Finer limits, rates and buckets.
    case jobFull, siteFull, kindFull, deviceFull, deviceLaneFull, placeReopens, placesGiven
    case rateEmpty, bucketEmpty

    // Time and poison.
    case notBeforeHeld, backoffHeld, cancelledWhileScheduled
    case batchDies, suspectAlone, suspectCleared, poisonEnds

    // Service.
    case laneFull, asideFull, laneReopens, capReached, weightChanges

    static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}
