import Client
import Domain
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// Times and tries of a job, from the API to a real script and back.
    @Suite(.serialized) struct RetryTests {
        @Test("a script that fails twice and then succeeds is started three times, and its job succeeds")
        func thirdTime() async throws {
            let fleet = try await #require(UpInstance.current).fleet("retries")
            let agent = try await fleet.onlineAgent("retries")
            let witness = try Witness(fleet.scratch)
            var job = NewJob(
                kind: .script, target: .devices([agent.device]),
                script: Script(
                    .sh,
                    """
                    echo started >> \(witness.path)
                    n=$(wc -l < \(witness.path))
                    echo "try $n"
                    test "$n" -ge 3 || exit 5
                    """), timeoutSeconds: 60)
            job.retry = Retry(maximumAttempts: 5, backoffSeconds: 1, maximumBackoffSeconds: 1)
            let id = try await fleet.api.submit(job).id
            let run = try await fleet.outcome(id)
            #expect(run.state == .succeeded && run.attempt == 3 && run.exitCode == 0, "\(run)")
            #expect(witness.starts() == 3)
            #expect(try await fleet.api.output(of: run.id).stdout == "try 3\n")
            let ended = try await fleet.api.job(id)
            #expect(ended.counts == ["succeeded": 1] && ended.state == .completed)
            try await eventually("the retries are counted") { try await fleet.api.job(id).retries == 2 }
            #expect(ended.retry == Retry(job.retry!.policy(idempotent: false)))
        }

        @Test("a script is not started before its time, and soon after it")
        func notBefore() async throws {
            let fleet = try await #require(UpInstance.current).fleet("times")
            let agent = try await fleet.onlineAgent("times")
            let witness = try Witness(fleet.scratch)
            var job = NewJob(
                kind: .script, target: .devices([agent.device]), script: witness.script(), timeoutSeconds: 60)
            let now = try await fleet.api.submit(
                NewJob(kind: .ping, target: .devices([agent.device]))
            ).id
            let time = try await fleet.api.job(now).createdAt + .seconds(3)
            job.notBefore = time
            let id = try await fleet.api.submit(job).id
            let shown = try await fleet.api.job(id)
            #expect(shown.notBefore == time && shown.counts == ["scheduled": 1])
            let run = try await fleet.outcome(id)
            #expect(run.state == .succeeded && witness.starts() == 1)
            #expect(try #require(run.startedAt) >= time)
        }
    }
}
