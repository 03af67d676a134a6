package import Domain
import Outbound
package import Wire

/// Calls the API of an installation.
///
/// Refusals are thrown as `Problem`, what is no answer of this API as `ClientError`, and what keeps the
/// server from being reached as the error of the transport. Connections are kept and shared by all calls of a
/// client.
package final class APIClient: Sendable {
    private let url: String
    private let key: String?
    private let certificateAuthority: String?
    private let http = HTTPClient(policy: .operator)

    /// A client of the API at a URL without a path; only `enroll` needs no key. `certificateAuthority` is a
    /// PEM file with the only authority to trust, without it the system's are.
    package init(url: String, key: String?, certificateAuthority: String? = nil) {
        self.url = url.hasSuffix("/") ? String(url.dropLast()) : url
        self.key = key
        self.certificateAuthority = certificateAuthority
    }

    /// Ends the connections; later calls fail.
    package func close() { http.close() }

    // MARK: Tokens

    /// Makes an enrolment token.
    package func createEnrollmentToken(_ new: NewEnrollmentToken) async throws -> CreatedEnrollmentToken {
        try await post("/v1/enrollment-tokens", new)
    }

    /// One page of enrolment tokens, optionally of one organization or site.
    package func enrollmentTokens(
        organization: OrganizationID? = nil, site: SiteID? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<EnrollmentToken> {
        try await get(
            "/v1/enrollment-tokens",
            [("organizationId", organization?.description), ("siteId", site?.description)]
                + page.parameters)
    }

    /// One enrolment token, but for its text.
    package func enrollmentToken(_ id: EnrollmentTokenID) async throws -> EnrollmentToken {
        try await get("/v1/enrollment-tokens/\(id)")
    }

    /// Revokes an enrolment token.
    package func revoke(_ id: EnrollmentTokenID) async throws {
        try await delete("/v1/enrollment-tokens/\(id)")
    }

    /// Enrols a device; the token in the body is the credential.
    package func enroll(_ new: NewEnrollment) async throws -> Enrollment {
        try await post("/v1/enrollments", new)
    }

    // MARK: Devices

    /// One page of devices, optionally of one organization or site, or only those that are online or not.
    package func devices(
        organization: OrganizationID? = nil, site: SiteID? = nil, online: Bool? = nil,
        _ page: PageOptions = PageOptions()
    ) async throws -> Page<Device> {
        try await get(
            "/v1/devices",
            [
                ("organizationId", organization?.description), ("siteId", site?.description),
                ("online", online.map { $0 ? "true" : "false" }),
            ] + page.parameters)
    }

    /// The certificates that a device was issued.
    package func certificates(of id: DeviceID) async throws -> Page<DeviceCertificate> {
        try await get("/v1/devices/\(id)/certificates")
    }

    /// Revokes a device's certificates.
    package func revoke(_ id: DeviceID) async throws -> Page<DeviceCertificate> {
        try await post("/v1/devices/\(id)/revoke")
    }

    /// One device.
    package func device(_ id: DeviceID) async throws -> Device { try await get("/v1/devices/\(id)") }

    // MARK: Jobs and runs

    /// Submits a job; the same key and body give the same job, or the same that waits for a second person.
    package func propose(_ new: NewJob, idempotencyKey: String? = nil) async throws -> Submitted {
        try await post("/v1/jobs", new, idempotencyKey: idempotencyKey)
    }

    /// As above, of what no second person has to approve; else throws what waits.
    package func submit(_ new: NewJob, idempotencyKey: String? = nil) async throws -> AcceptedJob {
        try await propose(new, idempotencyKey: idempotencyKey).job
    }

    /// Submits many jobs; each has an outcome of its own.
    package func submit(_ new: NewJobs, idempotencyKey: String? = nil) async throws -> BulkAnswer {
        try await post("/v1/jobs/bulk", new, idempotencyKey: idempotencyKey)
    }

    /// One page of jobs, newest first.
    package func jobs(
        organization: OrganizationID? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Job> {
        try await get("/v1/jobs", [("organizationId", organization?.description)] + page.parameters)
    }

    /// One job.
    package func job(_ id: JobID) async throws -> Job { try await get("/v1/jobs/\(id)") }

    /// One page of a job's runs.
    package func runs(of job: JobID, _ page: PageOptions = PageOptions()) async throws -> Page<Run> {
        try await get("/v1/jobs/\(job)/runs", page.parameters)
    }

    /// One run.
    package func run(_ id: RunID) async throws -> Run { try await get("/v1/runs/\(id)") }

    /// What a run printed.
    package func output(of run: RunID) async throws -> RunOutput { try await get("/v1/runs/\(run)/output") }

    /// Repeats the runs of a job that have ended and not succeeded, by a new job, which may wait for a second
    /// person.
    package func proposeRetry(
        _ job: JobID, confirmDevices: Int? = nil, idempotencyKey: String? = nil
    ) async throws -> Submitted {
        let query = confirmDevices.map { "?confirmDevices=\($0)" } ?? ""
        var request = request("POST", "/v1/jobs/\(job)/retry\(query)")
        if let idempotencyKey { request.headers.append(("Idempotency-Key", idempotencyKey)) }
        return try await send(request)
    }

    /// As above, of what no second person has to approve; else throws what waits.
    package func retry(_ job: JobID, idempotencyKey: String? = nil) async throws -> AcceptedJob {
        try await proposeRetry(job, idempotencyKey: idempotencyKey).job
    }

    // MARK: Dead letters

    /// One page of dead letters.
    package func deadLetters(
        organization: OrganizationID? = nil, job: JobID? = nil, reason: String? = nil, since: Instant? = nil,
        _ page: PageOptions = PageOptions()
    ) async throws -> Page<DeadLetter> {
        try await get(
            "/v1/dead-letters",
            [
                ("organizationId", organization?.description), ("jobId", job?.description),
                ("reason", reason), ("since", since?.description),
            ] + page.parameters)
    }

    /// One dead letter with its evidence.
    package func deadLetter(_ run: RunID) async throws -> DeadLetterDetail {
        try await get("/v1/dead-letters/\(run)")
    }

    /// Repeats dead letters by new jobs.
    package func redrive(_ selection: DeadLetterSelection) async throws -> DeadLetterAnswer {
        try await post("/v1/dead-letters/redrive", selection)
    }

    /// Takes dead letters off the list.
    package func discard(_ selection: DeadLetterSelection) async throws -> DeadLetterAnswer {
        try await post("/v1/dead-letters/discard", selection)
    }

    /// The job at once and at each change; the stream ends after the job has. A connection that breaks ends
    /// the stream with its error.
    package func events(of job: JobID) -> AsyncThrowingStream<Job, any Error> {
        var request = request("GET", "/v1/jobs/\(job)/events")
        request.headers.append(("Accept", "text/event-stream"))
        // Three heartbeats may be late.
        request.timeout = .seconds(50)
        let reader = EventReader(chunks: http.stream(request))
        return AsyncThrowingStream { try await reader.next() }
    }

    // MARK: One call

    /// What is answered, in pieces as it comes.
    func download(_ path: String, _ contentType: String) -> AsyncThrowingStream<[UInt8], any Error> {
        var request = request("GET", path)
        request.headers.append(("Accept", contentType))
        // The longest that one page of an export takes.
        request.timeout = .seconds(120)
        return http.stream(request)
    }

    func get<Answer: WireObject>(
        _ path: String, _ parameters: [(String, String?)] = []
    ) async throws -> Answer {
        let query = parameters.compactMap { name, value in value.map { "\(name)=\(Self.encoded($0))" } }
            .joined(separator: "&")
        return try await send(request("GET", query.isEmpty ? path : "\(path)?\(query)"))
    }

    func post<Answer: WireObject>(
        _ path: String, _ body: (some WireObject), idempotencyKey: String? = nil
    ) async throws -> Answer {
        try await send("POST", path, body, idempotencyKey: idempotencyKey)
    }

    func put<Answer: WireObject>(_ path: String, _ body: (some WireObject)) async throws -> Answer {
        try await send("PUT", path, body)
    }

    func patch<Answer: WireObject>(
        _ path: String, _ body: (some WireObject), version: Int?
    ) async throws -> Answer {
        try await send("PATCH", path, body, version: version)
    }

    func post<Answer: WireObject>(_ path: String, version: Int? = nil) async throws -> Answer {
        var request = request("POST", path)
        if let version { request.headers.append(("If-Match", "\"\(version)\"")) }
        return try await send(request)
    }

    func delete(_ path: String, version: Int? = nil) async throws {
        var request = request("DELETE", path)
        if let version { request.headers.append(("If-Match", "\"\(version)\"")) }
        let response = try await http.send(request)
        guard (200..<300).contains(response.status) else { throw ClientError.refusal(response) }
    }

    private func send<Answer: WireObject>(
        _ method: String, _ path: String, _ body: (some WireObject), idempotencyKey: String? = nil,
        version: Int? = nil
    ) async throws -> Answer {
        var request = request(method, path)
        if let version { request.headers.append(("If-Match", "\"\(version)\"")) }
        request.headers.append(("Content-Type", "application/json"))
        if let idempotencyKey { request.headers.append(("Idempotency-Key", idempotencyKey)) }
        request.body = body.json
        return try await send(request)
    }

    /// A value as it stands in a query.
    private static func encoded(_ value: String) -> String {
        value.utf8.map { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                UInt8(ascii: "."), UInt8(ascii: ":"):
                String(UnicodeScalar(byte))
            default: (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }.joined()
    }

    private func request(_ method: String, _ path: String) -> HTTPRequest {
        HTTPRequest(
            method: method, url: url + path,
            headers: [("Accept", "application/json")]
                + (key.map { [("Authorization", "Bearer \($0)")] } ?? []),
            timeout: .seconds(60), responseBytesMax: 64 << 20, certificateAuthorityPath: certificateAuthority)
    }

    private func send<Answer: WireObject>(_ request: HTTPRequest) async throws -> Answer {
        let response = try await http.send(request)
        guard (200..<300).contains(response.status) else { throw ClientError.refusal(response) }
        return try ClientError.decode(response.body)
    }
}

/// Which part of a list is wanted. Its values stand in a URL as they are.
package struct PageOptions: Sendable {
    /// How many items at the most; the server's default if absent.
    package var limit: Int?
    /// `next` of the page before.
    package var cursor: String?

    /// The first page unless a cursor is given.
    package init(limit: Int? = nil, cursor: String? = nil) {
        self.limit = limit
        self.cursor = cursor
    }

    var parameters: [(String, String?)] { [("limit", limit.map(String.init)), ("cursor", cursor)] }
}
