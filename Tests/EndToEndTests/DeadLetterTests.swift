import Client
import Domain
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// Dead letters from a real script to its repetition.
    @Suite(.serialized) struct DeadLetterTests {
        @Test("what retries did not bring to success is listed with its evidence, and succeeds when redriven")
        func redriven() async throws {
            let fleet = try await #require(UpInstance.current).fleet("dead letters")
            let agent = try await fleet.onlineAgent("dead-letters")
            let witness = try Witness(fleet.scratch)
            let mended = "\(fleet.scratch.path)/mended"
            var job = NewJob(
                kind: .script, target: .devices([agent.device]),
                script: Script(.sh, "echo started >> \(witness.path)\ntest -e \(mended) || exit 9"),
                timeoutSeconds: 60)
            job.retry = Retry(maximumAttempts: 2, backoffSeconds: 1, maximumBackoffSeconds: 1)
            let id = try await fleet.api.submit(job).id
            let run = try await fleet.outcome(id)
            #expect(run.state == .failed && run.attempt == 2 && witness.starts() == 2)
            let letters = try await fleet.api.deadLetters(organization: fleet.organization).items
            #expect(letters.map(\.run.id) == [run.id] && letters.map(\.reason) == ["attempts"])
            let detail = try await fleet.api.deadLetter(run.id)
            #expect(detail.attempts.map(\.attempt) == [1, 2])
            #expect(detail.attempts.allSatisfy { $0.exitCode == 9 && $0.finishedAt != nil })
            var selection = DeadLetterSelection(jobId: id, dryRun: true)
            #expect(try await fleet.api.redrive(selection).jobs == [RedrivenJob(retryOf: id, runs: 1)])
            try Witness.open(mended)
            selection.dryRun = false
            let answer = try await fleet.api.redrive(selection)
            let new = try #require(answer.jobs.first?.id, "\(answer)")
            #expect(try await fleet.outcome(new).state == .succeeded)
            #expect(try await fleet.api.job(new).retryOf == id)
            #expect(try await fleet.api.deadLetters(job: id).items.isEmpty)
            let refused = await #expect(throws: Problem.self) {
                _ = try await fleet.api.redrive(DeadLetterSelection(runIds: [run.id]))
            }
            #expect(refused?.status == 409 && refused?.field == "runIds[0]")
            // The whole job once more, by its own verb.
            let again = try await fleet.api.retry(id)
            #expect(try await fleet.outcome(again.id).state == .succeeded)
        }
    }
}
