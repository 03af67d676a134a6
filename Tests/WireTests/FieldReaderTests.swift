import Domain
import Testing
import Wire

@Suite struct FieldReaderTests {
    /// As many fields as the text says, all integers.
    private func read(_ count: Int, of text: String) throws -> [Int?] {
        var reader = try FieldReader(JSONValue(scanning: Array(text.utf8)))
        var values: [Int?] = []
        for index in 0..<count { values.append(try reader.optional("f\(index)")) }
        try reader.finish()
        return values
    }

    private func object(_ members: [(String, Int)]) -> String {
        "{" + members.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    }

    @Test("fields are found in whatever order and form they stand", arguments: [1, 2, 7, 63, 64, 65, 130])
    func order(count: Int) throws {
        let members = (0..<count).map { ("f\($0)", $0) }
        for members in [members, members.reversed(), members.shuffled()] {
            #expect(try read(count, of: object(members)) == Array(0..<count))
        }
        let escaped = members.shuffled().map { ("\\u0066" + $0.0.dropFirst(), $0.1) }
        #expect(try read(count, of: object(escaped)) == Array(0..<count))
    }

    @Test(
        "one field too many is refused by name, with those that were asked for", arguments: [1, 64, 65, 130])
    func unknown(count: Int) throws {
        let members = (0..<count).map { ("f\($0)", $0) }
        let known = (0..<count).map { "f\($0)" }.sorted().joined(separator: ", ")
        let refusal = FieldError(.unknownField, field: "more", "is not a field here; known are: \(known)")
        for place in [0, count / 2, count] {
            var all = members
            all.insert(("more", 1), at: place)
            #expect(throws: refusal) { try read(count, of: object(all)) }
            all.removeAll { $0.0 == "f0" }
            #expect(throws: refusal) { try read(count, of: object(all)) }
        }
        #expect(try read(count, of: object(members.filter { $0.0 != "f0" }))[0] == nil)
    }

    @Test("names are compared byte for byte, whether they are escaped or not")
    func names() throws {
        func has(_ name: String, _ written: String) throws -> Bool {
            var reader = try FieldReader(JSONValue(scanning: Array("{\"\(written)\":1}".utf8)))
            return try reader.optional(name, Int.self) == 1
        }
        #expect(try has("K", "K"))
        #expect(try has("K", "\\u004b"))
        #expect(try has("é€", "\\u00e9€"))
        #expect(try has("é€", "é\\u20AC"))
        for written in ["k", "KK", "", "\\u004bK", "K\\u004b", "\u{212A}", "\\u212a"] {
            #expect(try !has("K", written))
        }
        for written in ["é", "\\u00e9", "\\u00e9\\u20ad", "e\u{301}€"] { #expect(try !has("é€", written)) }
    }

    private func refusal<Value: WireObject>(_: Value.Type, _ text: String) -> String {
        do { return "accepted \(try Value.decode(Array(text.utf8)))" } catch { return "\(error)" }
    }

    @Test("a refusal names its field from the root")
    func paths() {
        let id = "0190b5a0-0000-7000-8000-000000000000"
        func job(_ target: String, _ rest: String = "") -> String {
            "{\"kind\":\"script\",\"target\":\(target)\(rest)}"
        }
        let site = "{\"siteId\":\"\(id)\"}"
        for (text, message) in [
            ("[]", "must be an object, not an array"),
            (job("1"), "target: must be an object, not an integer"),
            (
                job("{\"deviceIds\":[\"\(id)\",\"x\"]}"),
                "target.deviceIds[1]: must be an id, a UUID in its canonical form"
            ),
            (job("{\"deviceIds\":[]}"), "target.deviceIds: must not be empty"),
            (job("{\"deviceIds\":[\"\(id)\",\"\(id)\"]}"), "target.deviceIds: names a device twice"),
            (
                job("{}"),
                "target.deviceIds: exactly one of deviceIds, siteId and organizationId must be given"
            ),
            (job("{\"tags\":1}"), "target.tags: is not supported yet"),
            (
                job("{\"siteId\":\"\(id)\",\"\":1}"),
                "target.: is not a field here; known are: deviceIds, organizationId, siteId"
            ),
            (
                job("{\"siteId\":\"\(id)\",\"[é\":1}"),
                "target.[?: is not a field here; known are: deviceIds, organizationId, siteId"
            ),
            (job(site), "script: is missing; kind script needs it"),
            (job(site, ",\"script\":{}"), "script.interpreter: is missing"),
            (
                job(site, ",\"script\":{\"interpreter\":\"sh\",\"body\":\"\"}"),
                "script.body: must not be empty"
            ),
            (
                job(site, ",\"script\":{\"interpreter\":\"sh\",\"body\":\"\\u0000\"}"),
                "script.body: must not contain a NUL character"
            ),
            (
                job(site, ",\"script\":{\"interpreter\":\"sh\",\"body\":\"x\",\"args\":[\"a\",1]}"),
                "script.args[1]: must be a string, not an integer"
            ),
            (
                job(site, ",\"script\":{\"interpreter\":\"sh\",\"body\":\"x\",\"env\":{\"A\":1}}"),
                "script.env.A: must be a string, not an integer"
            ),
            (
                job(site, ",\"script\":{\"interpreter\":\"sh\",\"body\":\"x\",\"env\":{\"PATH\":\"\"}}"),
                "script.env.PATH: must not be set, since it changes what an interpreter runs "
                    + "or is the agent's to say"
            ),
            (job(site, ",\"timeoutSeconds\":0"), "timeoutSeconds: is 0; allowed are 1 to 86400"),
            (job(site, ",\"timeoutSeconds\":1.5"), "timeoutSeconds: must be an integer, not a number"),
        ] {
            #expect(refusal(NewJob.self, text) == message)
        }
        #expect(
            refusal(BulkAnswer.self, "{\"items\":[{\"status\":1},{\"status\":\"\"}]}")
                == "items[1].status: must be an integer, not a string")
    }

    @Test("a value that is judged later names the path it was given")
    func later() throws {
        let text = "{\"jobs\":[{\"kind\":\"ping\"},1]}"
        let jobs = try NewJobs.decode(Array(text.utf8)).jobs
        #expect(throws: FieldError(.missing, field: "jobs[0].target", "is missing")) {
            try NewJob.read(jobs[0], .none, field: "jobs[0]")
        }
        #expect(throws: FieldError(.wrongType, field: "jobs[1]", "must be an object, not an integer")) {
            try NewJob.read(jobs[1], .none, field: "jobs[1]")
        }
        #expect(throws: FieldError(.wrongType, field: "f.a", "must be an integer, not a boolean")) {
            try [String: Int].read(JSON.parse(Array("{\"a\":true}".utf8)), .none, field: "f")
        }
    }

    @Test("many jobs are written and read as each of them alone")
    func bulk() throws {
        let jobs = (0..<100).map { index in
            var script = Script(.sh, "echo \"\(index)\"\n")
            script.env = ["A": "é"]
            return NewJob(kind: .script, target: .devices([.new(at: Instant(seconds: 1))]), script: script)
        }
        let bulk = NewJobs(jobs: jobs)
        let text =
            Array("{\"jobs\":[".utf8) + Array(jobs.map(\.json).joined(separator: Array(",".utf8)))
            + Array("]}".utf8)
        #expect(bulk.json == text)
        #expect(try NewJobs.decode(text) == bulk)
        #expect(try NewJobs.decode(text).jobs.map { try NewJob.read($0, .none) } == jobs)
        #expect(NewJobs(jobs: []).json == Array("{\"jobs\":[]}".utf8))
    }

    @Test("words are the names of their values")
    func words() {
        for state in RunState.allCases { #expect(state.word == state.name) }
        for outcome in Outcome.allCases { #expect(outcome.word == outcome.name) }
        for state in JobState.allCases { #expect(state.word == state.name) }
    }
}
