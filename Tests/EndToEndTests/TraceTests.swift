import Client
import Domain
import Outbound
import Process
import Testing
import Wire

extension EndToEndTests {
    /// One trace through the logs of all that touch a run.
    @Suite(.serialized) struct TraceTests {
        private static let trace = "0af7651916cd43dd8448eb211c80319c"

        @Test("a caller's trace stands in the logs of API, dispatcher, gateway and agent, to the run's end")
        func followed() async throws {
            let scratch = try Scratch()
            let up = try await UpInstance(scratch, "--log-level", "debug")
            let fleet = try await up.fleet("traces")
            let agent = try await fleet.onlineAgent("traces")
            let http = RawAPI(
                url: try #require(up.readiness["apiURL"]),
                certificateAuthority: try #require(up.readiness["caCertificate"]))
            let new = NewJob(kind: .ping, target: .devices([agent.device]), timeoutSeconds: 30)
            let key = try #require(up.readiness["apiKey"])
            let response = try await http.send(
                "POST", "/v1/jobs", key: key, body: new.json,
                headers: [("traceparent", "00-\(Self.trace)-b7ad6b7169203331-01")])
            let job = try AcceptedJob.decode(response.body).id
            let run = try await fleet.outcome(job)
            #expect(run.state == .succeeded)
            #expect(try await fleet.api.job(job).traceparent?.contains(Self.trace) == true)
            // Another job, of which no line may name the trace.
            let other = try await fleet.submit(Script(.sh, "true"), on: [agent.device])
            let otherRun = try await fleet.outcome(other)
            try await eventually("the last word is in the log") {
                text(of: "\(scratch.path)/up.err").split(separator: "\n").contains {
                    $0.contains("word of a run") && $0.contains("\(otherRun.id)") && $0.contains("finished")
                }
            }
            let server = text(of: "\(scratch.path)/up.err").split(separator: "\n")
            let device = text(of: "\(scratch.path)/agent-traces.err").split(separator: "\n")
            func lines(_ log: [Substring], _ message: String, _ about: String) -> [Substring] {
                log.filter { $0.contains(message) && $0.contains(about) }
            }
            for (log, message, about, key) in [
                (server, "job accepted", "\(job)", "trace=\(Self.trace)"),
                (server, "run dispatched", "\(run.id)", "trace=\(Self.trace)"),
                (server, "run sent", "\(run.id)", "trace=\(Self.trace)"),
                (server, "word of a run", "\(run.id)", "trace.agent=\(Self.trace)"),
                (device, "run started", "\(run.id)", "trace=\(Self.trace)"),
                (device, "run ended", "\(run.id)", "trace=\(Self.trace)"),
            ] {
                let found = lines(log, message, about)
                #expect(!found.isEmpty, "no \(message)")
                #expect(found.allSatisfy { $0.contains(key) }, "\(found)")
            }
            for log in [server, device] {
                #expect(lines(log, "\(otherRun.id)", Self.trace).isEmpty)
            }
            _ = try await agent.stop()
            #expect(try await up.process.stop() == .exited(0))
        }
    }
}
