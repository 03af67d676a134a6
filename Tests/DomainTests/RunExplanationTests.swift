import Testing

@testable import Domain

@Suite("Why a run is where it is")
struct RunExplanationTests {
    private static let now = Instant(seconds: 1_800_000_000)
    private static let organization = OrganizationID(UniqueID(high: 1, low: 1))

    private static func facts(
        _ state: RunState = .queued, _ change: (inout RunFacts) -> Void = { _ in }
    ) -> RunFacts {
        var facts = RunFacts(
            now: now, run: RunID(UniqueID(high: 2, low: 2)), job: JobID(UniqueID(high: 3, low: 3)),
            organization: organization, kind: .script, priority: .standard, state: state,
            queuedAt: now + .seconds(-60), expiresAt: now + .seconds(3_600), timeoutSeconds: 60,
            device: RunFacts.Device(
                id: DeviceID(UniqueID(high: 4, low: 4)), hostname: "web-1",
                lastSeenAt: now + .seconds(-600), isOnline: true))
        facts.spot = .ready
        change(&facts)
        return facts
    }

    private static func pause(_ scope: QueueScope, at seconds: Int = -30, _ reason: String? = nil)
        -> RunFacts.Hold
    {
        RunFacts.Hold(
            scope: scope, since: now + .seconds(seconds), reason: reason,
            isByPlatform: scope.organization == nil)
    }

    /// One thing that holds a queued run, and what is to be said of it.
    private static let holding:
        [(cause: WaitCause, says: String, change: @Sendable (inout RunFacts) -> Void)] = [
            (.cancelling, "being cancelled", { $0.cancelRequestedAt = now }),
            (.expiring, "not sent by", { $0.expiresAt = now }),
            (
                .everythingPaused,
                "everything is paused since 2027-01-15T07:59:30.000Z by the platform: storm",
                { $0.pauses.append(pause(QueueScope(), "storm")) }
            ),
            (
                .organizationPaused, "its organization is paused",
                { $0.pauses.append(pause(QueueScope(organization: organization))) }
            ),
            (
                .kindPaused, "work of kind script of priority standard is paused",
                { $0.pauses.append(pause(QueueScope(kind: .script, priority: .standard))) }
            ),
            (
                .priorityPaused, "work of priority standard is paused",
                { $0.pauses.append(pause(QueueScope(organization: organization, priority: .standard))) }
            ),
            (.jobPaused, "its job is paused", { $0.isJobPaused = true }),
            (
                .waveNotReleased, "its wave 3 of the rollout, which is released up to wave 1",
                { ($0.wave, $0.releasedWave) = (3, 1) }
            ),
            (.deviceOffline, "device web-1, which is offline: last heard at", { $0.device.isOnline = false }),
            (
                .laneBusy, "4 of 4 runs of its lane are under way",
                { $0.laneLoad = RunFacts.Load(4, of: 4) }
            ),
            (.organizationCap, "7 of 7 are on devices", { $0.cap = RunFacts.Load(7, of: 7) }),
            (.jobCap, "its job's cap: 2 of 2", { $0.fullLimits.append(.init(.job, .init(2, of: 2))) }),
            (.siteCap, "its site's cap", { $0.fullLimits.append(.init(.site, .init(2, of: 2))) }),
            (.kindCap, "the cap of kind script", { $0.fullLimits.append(.init(.kind, .init(2, of: 2))) }),
            (
                .deviceCap, "the cap of device web-1",
                { $0.fullLimits.append(.init(.device, .init(2, of: 2))) }
            ),
            (
                .deviceLaneCap, "its lane of device",
                { $0.fullLimits.append(.init(.deviceLane, .init(1, of: 1))) }
            ),
            (
                .rateLimit, "rate limit, which lets a run start at",
                { $0.rateLimitedUntil = now + .seconds(5) }
            ),
            (.setBack, "gave it back", { $0.spot = .delayed }),
        ]

    @Test("each thing that holds a queued run is named alone, and before each that comes after it")
    func queued() {
        for (index, first) in Self.holding.enumerated() {
            let alone = RunExplanation(Self.facts(.queued, first.change))
            #expect(alone.cause == first.cause && alone.others.isEmpty, "\(first.cause)")
            #expect(alone.sentence.contains(first.says), "\(alone.sentence)")
            for second in Self.holding[(index + 1)...] {
                let both = RunExplanation(
                    Self.facts {
                        second.change(&$0)
                        first.change(&$0)
                    })
                #expect(
                    both.cause == first.cause && both.others == [second.cause],
                    "\(first.cause) \(second.cause)")
            }
        }
        let order = Self.holding.map { cause in WaitCause.allCases.firstIndex(of: cause.cause) ?? -1 }
        #expect(order == order.sorted(), "the precedence is that of the words")
    }

    @Test(
        "a pause that does not cover the run, a load below its limit and a rate that has passed hold nothing")
    func holdsNothing() {
        let explanation = RunExplanation(
            Self.facts {
                $0.pauses = [
                    Self.pause(QueueScope(organization: OrganizationID(.zero))),
                    Self.pause(QueueScope(kind: .ping)), Self.pause(QueueScope(priority: .bulk)),
                ]
                $0.cap = RunFacts.Load(6, of: 7)
                $0.laneLoad = RunFacts.Load(3, of: 4)
                $0.rateLimitedUntil = $0.now
                $0.wave = 1
                $0.releasedWave = 1
                $0.expiresAt = $0.now + .microseconds(1)
            })
        #expect(explanation.cause == .turn && explanation.others.isEmpty)
        let unlimited = RunExplanation(Self.facts { $0.cap = RunFacts.Load(1_000_000, of: nil) })
        #expect(unlimited.cause == .turn)
    }

    @Test("of two pauses of a sort the older one is told")
    func older() {
        let explanation = RunExplanation(
            Self.facts {
                $0.pauses = [Self.pause(QueueScope(), at: -5, "b"), Self.pause(QueueScope(), at: -9, "a")]
            })
        #expect(explanation.sentence.hasSuffix(": a.") && explanation.since == Self.now + .seconds(-9))
    }

    @Test("a run's turn has a place, and a time where the work in front of it moves")
    func turn() {
        func turn(_ ahead: RunFacts.Ahead?) -> RunExplanation {
            RunExplanation(Self.facts { $0.ahead = ahead })
        }
        let moving = turn(RunFacts.Ahead(runs: 120, drainRate: 2))
        #expect(moving.cause == .turn && moving.position == 121)
        #expect(moving.estimatedStart == Self.now + .seconds(60))
        #expect(
            moving.sentence.contains(
                "120 runs are in front of it, and at 120 a minute it starts at about 2027-01-15T08:01:00"))
        #expect(turn(RunFacts.Ahead(runs: 1, drainRate: 0.5)).sentence.contains("1 run is in front of it"))
        let still = turn(RunFacts.Ahead(runs: 120, drainRate: 0))
        #expect(still.position == 121 && still.estimatedStart == nil)
        #expect(still.sentence.contains("none of the organization's ended in the last minute"))
        let cut = turn(RunFacts.Ahead(runs: 10_000, isExact: false, drainRate: 2))
        #expect(cut.sentence.contains("more than 10000 runs") && cut.estimatedStart == nil)
        #expect(turn(RunFacts.Ahead(runs: 0)).sentence.contains("It is next"))
        #expect(turn(nil).position == nil)
        let never = turn(RunFacts.Ahead(runs: 10_000, drainRate: 0.000_000_1))
        #expect(never.estimatedStart == nil, "a time beyond a year is none")
    }

    @Test("outside the queue the state says what is waited for")
    func states() {
        func explain(_ state: RunState, _ change: (inout RunFacts) -> Void = { _ in }) -> RunExplanation {
            RunExplanation(Self.facts(state, change))
        }
        let later = Self.now + .seconds(90)
        let scheduled = explain(.scheduled) { $0.dueAt = later }
        #expect(
            scheduled.cause == .notBefore && scheduled.until == later && scheduled.estimatedStart == later)
        let retry = explain(.scheduled) {
            ($0.dueAt, $0.attempt, $0.maximumAttempts) = (later, 1, 3)
            $0.lastAttempt = .init(attempt: 1, outcome: .failed, exitCode: 3, at: Self.now)
        }
        #expect(retry.cause == .retryBackoff && retry.since == Self.now)
        #expect(
            retry.sentence.contains(
                "attempt 2 of 3, at 2027-01-15T08:01:30.000Z: attempt 1 failed (exit code 3)"))
        #expect(explain(.scheduled) { $0.attempt = 1 }.cause == .deviceSilent)
        let held = explain(.scheduled) {
            $0.dueAt = later
            $0.pauses = [Self.pause(QueueScope())]
        }
        #expect(held.cause == .notBefore && held.others == [.everythingPaused])
        let offline = explain(.waiting) { ($0.device.isOnline, $0.isJobPaused) = (false, true) }
        #expect(offline.cause == .deviceOffline && offline.since == Self.now + .seconds(-600))
        #expect(offline.others == [.jobPaused])
        #expect(explain(.waiting) { $0.device.isOnline = nil }.cause == .deviceOffline)
        #expect(explain(.waiting).cause == .deviceReturned)
        #expect(
            explain(.waiting) {
                $0.device.lastSeenAt = nil; $0.device.isOnline = false
            }.sentence
                == "It waits for device web-1, which is offline: never heard yet.")
        #expect(explain(.queued) { $0.spot = .leased }.cause == .beingDispatched)
        #expect(explain(.dispatched).cause == .beingDispatched)
        let sent = explain(.dispatched) { $0.sentAt = Self.now }
        #expect(sent.cause == .notStarted && sent.since == Self.now)
        let behind = explain(.dispatched) {
            $0.sentAt = Self.now
            $0.laneLoad = .init(5, of: 4)
            $0.laneHolders = Array(repeating: .init(run: RunID(.zero), startedAt: Self.now), count: 4)
        }
        #expect(behind.cause == .laneBusy && behind.others == [.notStarted])
        #expect(behind.sentence.contains("busy with run \(RunID(.zero)) and 3 more since"))
        let beside = explain(.dispatched) {
            ($0.sentAt, $0.laneLoad) = (Self.now, .init(4, of: 4))
            $0.laneHolders = Array(repeating: .init(run: RunID(.zero), startedAt: Self.now), count: 3)
        }
        #expect(beside.cause == .notStarted && beside.others.isEmpty, "the lane has a place for it")
        let running = explain(.running) { $0.startedAt = Self.now }
        #expect(running.cause == .running && running.until == Self.now + .seconds(60))
        #expect(running.sentence.hasSuffix("since \(Self.now) and may until \(Self.now + .seconds(60))."))
        let stopping = explain(.running) { $0.cancelRequestedAt = Self.now }
        #expect(stopping.cause == .running && stopping.others == [.cancelling])
        for state in RunState.allCases where state.isOutcome {
            let ended = explain(state) {
                $0.ending = .init(attempt: 2, outcome: .failed, exitCode: 4, reason: "because", at: Self.now)
            }
            #expect(ended.cause == .ended && ended.since == Self.now && ended.others.isEmpty)
            #expect(ended.sentence.hasSuffix("at \(Self.now) in attempt 2 (exit code 4, because)."))
        }
    }

    @Test("every combination of facts has one sentence, which ends in a full stop")
    func total() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let facts = Self.facts(RunState.allCases.randomElement(using: &generator) ?? .queued) { facts in
                for holding in Self.holding where Bool.random(using: &generator) { holding.change(&facts) }
                facts.spot = (RunFacts.Spot.allCases + []).randomElement(using: &generator)
                if Bool.random(using: &generator) { facts.dueAt = facts.now }
                if Bool.random(using: &generator) { facts.sentAt = facts.now }
                if Bool.random(using: &generator) { facts.startedAt = facts.now }
                if Bool.random(using: &generator) { facts.device.lastSeenAt = nil }
                if Bool.random(using: &generator) { facts.ahead = RunFacts.Ahead(runs: 3, drainRate: 1) }
                facts.attempt = Int.random(in: 0...2, using: &generator)
            }
            let explanation = RunExplanation(facts)
            #expect(explanation.sentence.hasPrefix("It ") || explanation.sentence.hasPrefix("A worker"))
            #expect(explanation.sentence.hasSuffix(".") && !explanation.sentence.hasSuffix(".."))
            #expect(!explanation.others.contains(explanation.cause))
            #expect(facts.state.isOutcome == (explanation.cause == .ended))
        }
    }

    @Test("a job sums up what its runs wait for, the commonest first")
    func job() {
        let turn = RunExplanation(Self.facts())
        let offline = RunExplanation(Self.facts(.waiting) { $0.device.isOnline = false })
        func run(_ number: UInt64) -> RunID { RunID(UniqueID(high: number, low: 0)) }
        let job = JobExplanation(
            state: .active, isExpanded: true, runs: [(run(1), turn), (run(2), offline), (run(3), offline)],
            isWhole: true, ended: [.succeeded: 2], finishedAt: nil)
        #expect(job.groups.map(\.cause) == [.deviceOffline, .turn] && job.groups.map(\.count) == [2, 1])
        #expect(job.groups.map(\.first) == [run(2), run(1)])
        #expect(
            job.sentence
                == "Of its 3 open runs 2 wait for a device that is offline, 1 waits for a turn in the queue; "
                + "ended so far: 2 succeeded.")
        func sentence(_ state: JobState, isExpanded: Bool = true, _ ended: [RunState: Int] = [:]) -> String {
            JobExplanation(
                state: state, isExpanded: isExpanded, runs: [], isWhole: true, ended: ended,
                finishedAt: Self.now
            ).sentence
        }
        #expect(
            sentence(.completed, [.succeeded: 1, .failed: 2])
                == "It has ended at \(Self.now): 1 succeeded, 2 failed.")
        #expect(sentence(.accepted, isExpanded: false).contains("being expanded"))
        #expect(sentence(.completed).contains("it had no runs"))
        let part = JobExplanation(
            state: .active, isExpanded: false, runs: [(run(1), turn)], isWhole: false, ended: [:],
            finishedAt: nil)
        #expect(
            part.sentence
                == "Of its first 1 open runs 1 waits for a turn in the queue; its target is still being "
                + "expanded."
        )
    }

    @Test("each cause has words for one run and for several")
    func words() {
        let single = WaitCause.allCases.map { $0.counted(1) }
        #expect(Set(single).count == WaitCause.allCases.count)
        for cause in WaitCause.allCases {
            #expect(cause.counted(1) != cause.counted(2).replacing("2", with: "1"), "\(cause)")
        }
    }
}
