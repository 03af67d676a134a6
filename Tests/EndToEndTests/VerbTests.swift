import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests {
    /// Operators' verbs that no other test runs, each once against an installation: as text, as JSON, and
    /// with input that is refused.
    @Suite(.serialized, SeparateProcesses()) struct VerbTests {
        private let installation: Installation
        private let key: String

        init() async throws {
            installation = try #require(Installation.current)
            let made = try await tool(
                try Binaries.path("cloudrmm"),
                ["keys", "create-administrator", "--keys-dir", installation.keys],
                environment: installation.environment
            ).required()
            key = String(made.prefix { $0 != "\n" })
        }

        private func run(_ arguments: [String]) async throws -> ToolResult {
            try await tool(
                try Binaries.path("cloudrmm"), arguments,
                environment: [
                    ("API_URL", installation.apiURL), ("CLOUDRMM_API_KEY", key),
                    ("CLOUDRMM_CA", installation.certificateAuthority),
                ])
        }

        /// What a verb prints.
        private func text(_ arguments: String...) async throws -> String {
            try await run(arguments).required()
        }

        /// What it prints as JSON, a value a line, each of which is read.
        private func json(_ arguments: String...) async throws -> String {
            let said = try await run(arguments + ["--output", "json"]).required()
            for line in said.split(separator: "\n") { _ = try JSON.parse(Array(line.utf8)) }
            return said
        }

        /// Expects a call to be refused with these words, and nothing on its output.
        private func refuses(
            _ arguments: [String], _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
        ) async throws {
            let result = try await run(arguments)
            #expect(result.exit == .exited(2), "\(arguments): \(result)", sourceLocation: sourceLocation)
            #expect(result.output.isEmpty, "\(arguments)", sourceLocation: sourceLocation)
            for word in words {
                #expect(
                    result.errors.contains(word), "\(arguments): \(word) is not in \(result.errors)",
                    sourceLocation: sourceLocation)
            }
        }

        private let nobody = "01900000-0000-7000-8000-00000000000a"

        // MARK: Tasks

        /// Puts a task there that has a state already.
        private func task(_ fleet: Fleet, _ state: TaskState, reason: String? = nil) async throws -> String {
            let id = TaskID(UniqueID(high: .random(in: 1 ... .max), low: .random(in: 1 ... .max))).description
            try await installation.postgres.execute(
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                    backoff_seconds, maximum_backoff_seconds, timeout_seconds, reason, finished_at,
                    expires_at, deadline)
                VALUES ('\(fleet.organization)', '\(id)', 'retention', '{}', \(state.rawValue), 1, 5, 1, 1,
                    600, \(reason.map { "'\($0)'" } ?? "NULL"),
                    \(state.isOutcome ? "now()" : "NULL"), now() + interval '2 hours',
                    now() + interval '1 hour')
                """)
            return id
        }

        @Test("tasks are listed, shown, cancelled, repeated; what is kept is shown and set")
        func tasks() async throws {
            let fleet = try await installation.fleet("verbs tasks")
            let organization = fleet.organization.description
            let (failed, scheduled) = (
                try await task(fleet, .failed, reason: "poison"), try await task(fleet, .scheduled)
            )
            let all = try await text("tasks", "list", "--organization", organization)
            #expect(all.hasPrefix("ID") && all.contains(failed) && all.contains(scheduled), "\(all)")
            let some = try await json(
                "tasks", "list", "--organization", organization, "--kind", "retention", "--state", "failed")
            #expect(some.contains(failed) && !some.contains(scheduled), "\(some)")
            try await refuses(["tasks", "list", "--state", "nonsense"], "nonsense", "queued")
            try await refuses(["tasks", "list", "--kind", "nonsense"], "kind", "nonsense", "retention")

            let shown = try await text("tasks", "show", failed)
            #expect(
                shown.hasPrefix("retention: task \(failed) of organization \(organization)\n"), "\(shown)")
            #expect(shown.contains("failed (poison), priority standard"), "\(shown)")
            #expect(try await json("tasks", "show", failed).contains(#""reason":"poison""#))
            try await refuses(["tasks", "show", nobody], "not")
            try await refuses(["tasks", "show", "nonsense"], "nonsense")

            let cancelled = try await text("tasks", "cancel", scheduled)
            #expect(cancelled.contains(scheduled) && cancelled.contains("cancelled"), "\(cancelled)")
            #expect(try await json("tasks", "cancel", scheduled).contains(#""state":"cancelled""#))
            try await refuses(["tasks", "cancel", nobody], "not")

            let repeated = try await json("tasks", "retry", failed)
            #expect(repeated.contains(#""retryOf":"\#(failed)""#), "\(repeated)")
            let again = try await text("tasks", "retry", failed)
            let new = try #require(
                try await fleet.api.tasks(organization: fleet.organization).items.first {
                    $0.retryOf?.description == failed
                })
            #expect(again.contains(new.id.description), "the same again: \(again)")
            try await eventually("it is done") {
                try await text("tasks", "show", new.id.description).contains("succeeded")
            }
            #expect(try await text("tasks", "show", new.id.description).contains("repeats \(failed)"))
            try await refuses(["tasks", "retry", new.id.description], "succeeded", "only one that ended")

            #expect(try await text("tasks", "keep", organization) == "90 days (default)\n")
            #expect(try await text("tasks", "keep", organization, "--days", "30") == "30 days\n")
            #expect(try await json("tasks", "keep", organization).contains(#""days":30"#))
            _ = try await text("tasks", "keep", organization, "--days", "default")
            #expect(try await text("tasks", "keep", organization).contains("default"))
            try await refuses(["tasks", "keep", organization, "--days", "3651"], "days", "3651", "3650")
            try await refuses(["tasks", "keep", organization, "--days", "0"], "days", "0", "1")
            try await refuses(["tasks", "keep", organization, "--days", "some"], "--days")
            try await refuses(["tasks", "keep", nobody], "not")
        }

        // MARK: Dead letters

        @Test("dead letters are listed, shown with their attempts, redriven and discarded")
        func deadLetters() async throws {
            let fleet = try await installation.fleet("verbs dead letters")
            let agent = try await fleet.onlineAgent("verbs-dead-letters")
            let organization = fleet.organization.description
            var job = NewJob(
                kind: .script, target: .devices([agent.device]), script: Script(.sh, "exit 9"),
                timeoutSeconds: 60)
            job.retry = Retry(maximumAttempts: 2, backoffSeconds: 1, maximumBackoffSeconds: 1)
            let (first, second) = (try await fleet.api.submit(job).id, try await fleet.api.submit(job).id)
            let run = try await fleet.outcome(first).id.description
            _ = try await fleet.outcome(second)
            let list = try await text("dead-letters", "list", "--organization", organization)
            #expect(list.contains(run) && list.contains("attempts") && list.contains(" 9 "), "\(list)")
            let one = try await json("dead-letters", "list", "--job", first.description)
            #expect(one.contains(run) && !one.contains(second.description), "\(one)")
            try await refuses(
                ["dead-letters", "list", "--reason", "nonsense"], "reason", "nonsense", "poison")
            try await refuses(["dead-letters", "list", "--since", "nonsense"], "since", "nonsense")

            let shown = try await text("dead-letters", "show", run)
            #expect(
                shown.hasPrefix("attempts: run \(run) of job \(first) on \(agent.device)\n"), "\(shown)")
            #expect(shown.contains("ATTEMPT") && shown.contains("retried"), "\(shown)")
            #expect(try await json("dead-letters", "show", run).contains(#""exitCode":9"#))
            try await refuses(["dead-letters", "show", nobody], "not")

            let dry = try await text("dead-letters", "redrive", "--job", first.description, "--dry-run")
            #expect(dry.contains(first.description) && !dry.contains("REPEATED"), "\(dry)")
            let redriven = try await json("dead-letters", "redrive", run)
            #expect(redriven.contains(#""retryOf":"\#(first)""#) && redriven.contains(#""id":""#))
            try await refuses(["dead-letters", "redrive", run], "runIds[0]", "is no dead letter")
            try await refuses(["dead-letters", "redrive"], "organizationId")
            try await refuses(
                ["dead-letters", "redrive", "--job", second.description, "--expect", "7"], "expectedCount",
                "7", "1")

            let would = try await text("dead-letters", "discard", "--job", second.description, "--dry-run")
            #expect(would == "1 dead letters would be discarded\n")
            let gone = try await json("dead-letters", "discard", "--job", second.description)
            #expect(gone.contains(#""count":1"#), "\(gone)")
            try await refuses(["dead-letters", "discard", nobody], "runIds[0]", "no dead letter")
            #expect(
                try await text("dead-letters", "list", "--job", second.description)
                    .split(separator: "\n").count <= 1)
            _ = try await agent.stop()
        }

        // MARK: Queues

        @Test("queues and what holds them back are listed; limits, shares and quotas are shown as JSON too")
        func queues() async throws {
            let fleet = try await installation.fleet("verbs queues")
            let agent = try await fleet.onlineAgent("verbs-queues")
            let organization = fleet.organization.description
            let paused = try await json(
                "queues", "pause", "--organization", organization, "--kind", "ping", "--reason", "a reason")
            #expect(paused.contains(#""reason":"a reason""#), "\(paused)")
            let ping = NewJob(kind: .ping, target: .devices([agent.device]))
            let job = try await fleet.api.submit(ping).id
            try await eventually("it is shown") {
                try await text("queues", "list").contains(organization)
            }
            let list = try await text("queues", "list")
            #expect(list.hasPrefix("ORGANIZATION") && list.contains("standard"), "\(list)")
            #expect(try await json("queues", "list").contains(#""depth":1"#))
            let controls = try await text("queues", "controls")
            #expect(controls.contains("a reason") && controls.contains("platform"), "\(controls)")
            #expect(try await json("queues", "controls").contains(#""kind":"ping""#))
            let resume = ["queues", "resume", "--organization", organization]
            try await refuses(resume + ["--kind", "script"], "is not paused")
            try await refuses(resume + ["--mode", "nonsense"], "nonsense")
            try await refuses(resume + ["--all"], "not both")
            let lifted = try await json(
                "queues", "resume", "--organization", organization, "--kind", "ping", "--mode", "pause")
            #expect(lifted.contains("a reason"), "\(lifted)")
            _ = try await fleet.outcome(job)
            let drained = try await json("queues", "drain", "--organization", organization)
            #expect(drained.contains("drain"), "\(drained)")
            _ = try await text("queues", "resume", "--organization", organization)

            let limits = try await text(
                "queues", "limits", organization, "--limit", "kind:script=2", "--limit", "device=1",
                "--rate", "5", "--burst", "10")
            #expect(limits.contains("script") && limits.contains("each"), "\(limits)")
            #expect(limits.contains("5.0 runs a second, 10 at once"), "\(limits)")
            #expect(try await json("queues", "limits", organization).contains(#""burst":10"#))
            let limit = ["queues", "limits", organization, "--limit"]
            try await refuses(limit + ["nonsense=1"], "nonsense=1", "SCOPE[:KEY]=N")
            try await refuses(limit + ["kind=-1"], "limits[0].running", "-1")
            try await refuses(["queues", "limits", organization, "--rate", "1"], "--burst")
            try await refuses(
                ["queues", "limits", organization, "--rate", "0", "--burst", "1"], "rate", "0")
            #expect(try await json("queues", "limits", organization, "--none").contains(#""limits":[]"#))

            #expect(try await json("queues", "weight", organization, "2.5").contains(#""weight":2.5"#))
            #expect(try await json("queues", "cap", organization, "7").contains(#""cap":7"#))
            try await refuses(["queues", "cap", organization, "0"], "cap", "0", "1")
            try await refuses(["queues", "cap", organization, "some"], "some")
            #expect(try await json("queues", "interactive", organization).contains("perMinute"))
            #expect(try await json("queues", "quota", organization).contains(#""openRuns":{"#))
            #expect(try await json("queues", "show", organization).contains(#""weight":2.5"#))
            try await refuses(["queues", "show", nobody], "not")
            _ = try await agent.stop()
        }

        // MARK: Cancels

        @Test("jobs are cancelled by what they are, first counted; a run by its id")
        func cancels() async throws {
            let fleet = try await installation.fleet("verbs cancels")
            let agent = try await fleet.agent("verbs-cancels")
            let organization = fleet.organization.description
            var jobs: [JobID] = []
            for _ in 0..<3 { jobs.append(try await fleet.submit(Script(.sh, "true"), on: [agent.device])) }
            let filter = ["jobs", "cancel", "--organization", organization]
            #expect(
                try await run(filter + ["--kind", "script", "--dry-run"]).required() == "3 jobs match\n")
            #expect(try await run(filter + ["--kind", "ping", "--dry-run"]).required() == "0 jobs match\n")
            try await refuses(filter + ["--expected-count", "2"], "expectedCount", "2", "3")
            try await refuses(filter + ["--created-after", "nonsense"], "nonsense")
            try await refuses(filter + ["--all"], "one of")
            try await refuses(["jobs", "cancel", jobs[0].description, "--dry-run"], "stands alone")
            try await refuses(["jobs", "cancel"], "name a job's id")
            let run = try #require(try await fleet.api.runs(of: jobs[0]).items.first).id.description
            #expect(try await text("runs", "cancel", run) == "cancelled\n")
            try await refuses(["runs", "cancel", run], "cancelled")
            try await refuses(["runs", "cancel", nobody], "not")
            let rest = try await json(
                "jobs", "cancel", "--organization", organization, "--expected-count", "2")
            #expect(rest.contains(#""cancelled":2"#), "\(rest)")
            for job in jobs { #expect(try await fleet.outcome(job).state == .cancelled) }
        }

        // MARK: Workers

        @Test("a worker is drained by its id, and says so; the others go on")
        func workers() async throws {
            let before = Set(try await installation.fleet("verbs workers").api.workers().items.map(\.id))
            let other = try await installation.startAnother(.worker)
            let fleet = try await installation.fleet("verbs workers too")
            var added: WorkerStatus?
            try await eventually("the other is known") {
                added = try await fleet.api.workers().items.first { !before.contains($0.id) }
                return added != nil
            }
            let id = try #require(added).id.description
            #expect(try await json("workers", "list").contains(#""id":"\#(id)""#))
            let draining = try await text("workers", "drain", id)
            #expect(draining.contains(id) && draining.contains("drain"), "\(draining)")
            try await eventually("it is drained") {
                try await text("workers", "list").split(separator: "\n").contains {
                    $0.contains(id) && $0.contains("drained")
                }
            }
            #expect(try await json("workers", "drain", id).contains("drained"), "it stays so")
            try await refuses(["workers", "drain", nobody], "not")
            try await refuses(["workers", "drain", "nonsense"], "nonsense")
            #expect(try await other.stop() == .exited(0))
            let agent = try await fleet.onlineAgent("verbs-workers")
            let job = try await fleet.submit(Script(.sh, "true"), on: [agent.device])
            #expect(try await fleet.outcome(job).state == .succeeded)
            _ = try await agent.stop()
        }

        @Test("doctor finds separate processes well, and names the login that stands above the rows")
        func doctor() async throws {
            let well = try await tool(
                try Binaries.path("cloudrmm"), ["doctor"], environment: installation.environment)
            #expect(well.exit == .exited(0), "\(well)")
            #expect(well.output.contains("row-level security holds"), "\(well.output)")
            let above = try await tool(
                try Binaries.path("cloudrmm"), ["doctor"],
                environment: installation.environment.map { name, value in
                    (name, name == "DATABASE_URL" ? installation.postgres.url("owner") : value)
                })
            #expect(above.exit == .exited(1) && above.output.contains("fail"), "\(above)")
        }
    }
}
