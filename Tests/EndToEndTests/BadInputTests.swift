import Client
import Domain
import Outbound
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// Requests that are wrong: each gets a problem that names field and limit, and changes nothing.
    @Suite(.serialized) struct BadInputTests {
        private let up: UpInstance
        private let raw: RawAPI
        private let key: String

        init() throws {
            up = try #require(UpInstance.current)
            key = try #require(up.readiness["apiKey"])
            raw = RawAPI(
                url: try #require(up.readiness["apiURL"]),
                certificateAuthority: try #require(up.readiness["caCertificate"]))
        }

        private func job(
            _ device: DeviceID, _ more: String, script: String = #"{"interpreter":"sh","body":"true"}"#
        )
            -> [UInt8]
        {
            Array(
                #"{"kind":"script","target":{"deviceIds":["\#(device)"]},"script":\#(script)\#(more)}"#.utf8)
        }

        @Test("jobs with a wrong body are refused by field and limit, and nothing is submitted")
        func jobs() async throws {
            let fleet = try await up.fleet("bad-jobs")
            let device = try await fleet.agent("bad-jobs").device
            func script(_ fields: String) -> String { #"{"interpreter":"sh",\#(fields)}"# }
            func body(_ text: String) -> String { #"{"interpreter":"sh","body":"\#(text)"}"# }
            let tooLong = String(repeating: "x", count: Limits.scriptBytesMax + 1)
            var cases: [(String, [UInt8], Refused)] = [
                ("half an object", Array("{".utf8), Refused(status: 400, code: "malformed")),
                ("nothing", [], Refused(status: 400, code: "malformed")),
                (
                    "a member twice", Array(#"{"kind":"ping","kind":"ping"}"#.utf8),
                    Refused(status: 400, code: "malformed")
                ),
                (
                    "deep nesting", Array(String(repeating: "[", count: 10_000).utf8),
                    Refused(status: 400, code: "malformed")
                ),
                ("no object", Array("[]".utf8), Refused(status: 422, code: "wrongType", says: ["object"])),
                (
                    "an unknown field", job(device, #","surprise":1"#),
                    Refused(status: 422, code: "unknownField", field: "surprise")
                ),
                (
                    "a negative timeout", job(device, #","timeoutSeconds":-1"#),
                    Refused(
                        status: 422, code: "invalid", field: "timeoutSeconds", says: ["-1", "1", "86400"])
                ),
                (
                    "a timeout over the limit", job(device, #","timeoutSeconds":86401"#),
                    Refused(status: 422, code: "invalid", field: "timeoutSeconds", says: ["86401", "86400"])
                ),
                (
                    "a number as text", job(device, #","timeoutSeconds":"5""#),
                    Refused(status: 422, code: "wrongType", field: "timeoutSeconds")
                ),
                (
                    "no time to expire", job(device, #","expiresInSeconds":0"#),
                    Refused(status: 422, code: "invalid", field: "expiresInSeconds", says: ["2592000"])
                ),
                (
                    "a script over 1 MiB", job(device, "", script: body(tooLong)),
                    Refused(status: 422, code: "invalid", field: "script.body", says: ["1048577", "1048576"])
                ),
                (
                    "an empty script", job(device, "", script: body("")),
                    Refused(status: 422, code: "invalid", field: "script.body")
                ),
                (
                    "a NUL in the script", job(device, "", script: body(#"a\u0000b"#)),
                    Refused(status: 422, code: "invalid", field: "script.body", says: ["NUL"])
                ),
                (
                    "an unknown interpreter", job(device, "", script: #"{"interpreter":"perl","body":"1"}"#),
                    Refused(
                        status: 422, code: "invalid", field: "script.interpreter",
                        says: ["sh", "bash", "python3"])
                ),
                (
                    "a variable that steers interpreters",
                    job(device, "", script: script(#""body":"1","env":{"LD_PRELOAD":"/x"}"#)),
                    Refused(status: 422, code: "invalid", field: "script.env.LD_PRELOAD")
                ),
                (
                    "a relative directory",
                    job(device, "", script: script(#""body":"1","workingDirectory":"tmp""#)),
                    Refused(
                        status: 422, code: "invalid", field: "script.workingDirectory", says: ["absolute"])
                ),
                (
                    "an unknown kind",
                    Array(#"{"kind":"explode","target":{"deviceIds":["\#(device)"]}}"#.utf8),
                    Refused(status: 422, code: "invalid", field: "kind", says: ["script", "ping", "sysinfo"])
                ),
                (
                    "an unknown priority", job(device, #","priority":"urgent""#),
                    Refused(
                        status: 422, code: "invalid", field: "priority",
                        says: ["interactive", "standard", "bulk"])
                ),
            ]
            for kind in JobKind.notSupportedYet.sorted() {
                cases.append(
                    (
                        kind, Array(#"{"kind":"\#(kind)","target":{"deviceIds":["\#(device)"]}}"#.utf8),
                        Refused(status: 422, code: "notSupported", field: "kind")
                    ))
            }
            for field in ["rollout"] {
                cases.append(
                    (
                        field, job(device, #","\#(field)":{}"#),
                        Refused(status: 422, code: "notSupported", field: field)
                    ))
            }
            for field in ["tags", "filter"] {
                cases.append(
                    (
                        field, Array(#"{"kind":"ping","target":{"\#(field)":[]}}"#.utf8),
                        Refused(status: 422, code: "notSupported", field: "target.\(field)")
                    ))
            }
            for (what, body, refused) in cases {
                refused.check(try await raw.problem("POST", "/v1/jobs", key: key, body: body), what)
            }
            var notUTF8 = job(device, "", script: body("@"))
            notUTF8[try #require(notUTF8.firstIndex(of: UInt8(ascii: "@")))] = 0xFF
            let problem = try await raw.problem("POST", "/v1/jobs", key: key, body: notUTF8)
            #expect(problem.status == 400 && problem.detail.contains("UTF-8"), "\(problem)")
            #expect(try await fleet.api.jobs(organization: fleet.organization).items.isEmpty)

            let fitting = job(device, "", script: body(String(tooLong.dropLast())))
            #expect(try await raw.send("POST", "/v1/jobs", key: key, body: fitting).status == 202)
        }

        @Test("targets that are empty, unknown, in two organizations or outside the key's scope are refused")
        func targets() async throws {
            let fleet = try await up.fleet("targets")
            let other = try await up.fleet("others")
            let devices = (try await fleet.agent("targets").device, try await other.agent("others").device)
            let empty = try await fleet.withNewSite("empty")
            let narrow = try await fleet.api.createAPIKey(
                NewAPIKey(
                    name: "narrow", organizationId: fleet.organization,
                    permissions: ["jobs:run", "jobs:read", "enrollmentTokens:write"])
            ).key
            let stranger = DeviceID(fleet.site.value)
            let cases: [(key: String, target: String, field: String)] = [
                (key, "{}", "target.deviceIds"), (key, #"{"deviceIds":[]}"#, "target.deviceIds"),
                (key, #"{"deviceIds":["\#(stranger)"]}"#, "target.deviceIds[0]"),
                (key, #"{"deviceIds":["nonsense"]}"#, "target.deviceIds[0]"),
                (key, #"{"deviceIds":["\#(devices.0)","\#(devices.0)"]}"#, "target.deviceIds"),
                (key, #"{"deviceIds":["\#(devices.0)","\#(devices.1)"]}"#, "target.deviceIds[1]"),
                (key, #"{"deviceIds":["\#(devices.0)"],"siteId":"\#(fleet.site)"}"#, "target.deviceIds"),
                (key, #"{"siteId":"\#(empty.site)"}"#, "target.siteId"),
                (narrow, #"{"deviceIds":["\#(devices.1)"]}"#, "target.deviceIds[0]"),
                (narrow, #"{"siteId":"\#(other.site)"}"#, "target.siteId"),
                (narrow, #"{"organizationId":"\#(other.organization)"}"#, "target.organizationId"),
            ]
            for (key, target, field) in cases {
                let problem = try await raw.problem(
                    "POST", "/v1/jobs", key: key, body: Array(#"{"kind":"ping","target":\#(target)}"#.utf8))
                #expect(problem.status == 422 && problem.field == field, "\(target): \(problem)")
            }
            for fleet in [fleet, other] {
                #expect(try await fleet.api.jobs(organization: fleet.organization).items.isEmpty)
            }
            let token = try await raw.problem(
                "POST", "/v1/enrollment-tokens", key: narrow,
                body: Array(#"{"siteId":"\#(other.site)"}"#.utf8))
            Refused(status: 422, code: "invalid", field: "siteId").check(
                token, "a token for somebody else's site")
            let accepted = try await raw.send(
                "POST", "/v1/jobs", key: narrow,
                body: Array(#"{"kind":"ping","target":{"deviceIds":["\#(devices.0)"]}}"#.utf8))
            #expect(accepted.status == 202, "within its scope the key does what it may")
        }

        @Test(
            "bodies over the limit are refused, announced or not, and so are callers without a right key"
        )
        func bodiesAndKeys() async throws {
            let over = [UInt8](repeating: UInt8(ascii: " "), count: Limits.bodyBytesMax + 1)
            let refused = Refused(status: 413, code: "tooLarge", says: ["\(Limits.bodyBytesMax)"])
            refused.check(try await raw.problem("POST", "/v1/jobs", key: key, body: over), "announced")
            let chunked = try await tool(
                "/usr/bin/curl",
                [
                    "-sS", "--cacert", raw.certificateAuthority, "-X", "POST", "-H",
                    "Transfer-Encoding: chunked",
                    "-H", "Authorization: Bearer \(key)", "-H", "Content-Type: application/json", "-T", "-",
                    "\(raw.url)/v1/jobs",
                ], input: String(decoding: over, as: UTF8.self))
            refused.check(try Problem.decode(Array(chunked.output.utf8)), "not announced")
            let body = Array(#"{"kind":"ping","target":{}}"#.utf8)
            for wrong in [nil, "", "crmm_", key + "x", String(key.dropLast()) + "-", "crmm_é"] as [String?] {
                let problem = try await raw.problem("POST", "/v1/jobs", key: wrong, body: body)
                Refused(status: 401, code: "unauthorized").check(problem, "\(wrong ?? "no key")")
            }
            let reader = try await up.api.createAPIKey(NewAPIKey(name: "reader", permissions: ["jobs:read"]))
                .key
            let problem = try await raw.problem("POST", "/v1/jobs", key: reader, body: body)
            #expect(problem.status == 403 && problem.detail.contains("jobs:run"), "\(problem)")
            for path in [
                "/v1/nothing", "/v1/jobs/nonsense", "/v1/runs/01900000-0000-7000-8000-000000000000/output",
            ] {
                #expect(try await raw.problem("GET", path, key: key, body: []).status == 404)
            }
            #expect(try await raw.send("GET", "/healthz").status == 200, "the server goes on")
        }
    }
}
