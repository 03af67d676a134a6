import Foundation
import Outbound
import Testing

@Suite("An HTTP client", .timeLimit(.minutes(1)))
struct HTTPClientTests {
    private let server: TestServer
    private let client = HTTPClient(policy: .operator)

    init() throws { server = try TestServer.shared.get() }

    private struct Echo: Decodable {
        var method: String
        var body: String
        var peer: Int
        var headers: [String: String]
    }

    private func echo(_ request: HTTPRequest) async throws -> Echo {
        let response = try await client.send(request)
        return try JSONDecoder().decode(Echo.self, from: Data(response.body))
    }

    private func code(_ client: HTTPClient, _ request: HTTPRequest) async -> OutboundError.Code? {
        do {
            _ = try await client.send(request)
            return nil
        } catch {
            return (error as? OutboundError)?.code
        }
    }

    @Test(
        "sends method, header fields and body as given", arguments: ["GET", "POST", "PUT", "PATCH", "DELETE"])
    func sendsWhatIsGiven(method: String) async throws {
        let echo = try await echo(
            HTTPRequest(
                method: method, url: server.url + "/echo", headers: [("X-One", "1"), ("X-Empty", "")],
                body: Array("{\"ü\": 1}".utf8)))
        #expect(echo.method == method)
        #expect(echo.body == "{\"ü\": 1}")
        #expect(echo.headers["x-one"] == "1")
        #expect(echo.headers["x-empty"] == "")
        #expect(echo.headers["content-type"] == nil)
        #expect(echo.headers["expect"] == nil)
    }

    @Test("gives an empty POST a length of zero and a GET none")
    func emptyBodies() async throws {
        let post = try await echo(HTTPRequest(method: "POST", url: server.url + "/echo"))
        #expect(post.headers["content-length"] == "0")
        let get = try await echo(HTTPRequest(url: server.url + "/echo"))
        #expect(get.headers["content-length"] == nil)
        let head = try await client.send(HTTPRequest(method: "HEAD", url: server.url + "/bytes?5"))
        #expect(head.body.isEmpty && head.header("Content-Length") == "5")
    }

    @Test("returns status, lower-cased header names and repeated fields")
    func readsTheHead() async throws {
        let response = try await client.send(HTTPRequest(url: server.url + "/echo"))
        #expect(response.status == 200)
        #expect(response.header("X-MIXED") == "One")
        #expect(response.headers.filter { $0.0 == "x-two" }.map(\.1) == ["a", "b"])
        #expect(try await client.send(HTTPRequest(url: server.url + "/status?503")).status == 503)
    }

    @Test("keeps connections alive and uses them again")
    func reusesConnections() async throws {
        var peers: Set<Int> = []
        for _ in 0..<5 { peers.insert(try await echo(HTTPRequest(url: server.url + "/echo")).peer) }
        #expect(peers.count == 1)
    }

    @Test("runs hundreds of requests at once")
    func concurrentRequests() async throws {
        let url = server.url
        let client = client
        let count = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<300 {
                group.addTask { try await client.send(HTTPRequest(url: url + "/bytes?1000")).body.count }
            }
            var sum = 0
            for try await bytes in group { sum += bytes }
            return sum
        }
        #expect(count == 300_000)
    }

    @Test("does not follow redirects")
    func noRedirects() async throws {
        let response = try await client.send(HTTPRequest(url: server.url + "/redirect"))
        #expect(response.status == 302 && response.header("location") == "/echo")
    }

    @Test("takes a body of the limit and refuses one byte more", arguments: ["/bytes", "/unannounced"])
    func boundsTheBody(path: String) async throws {
        let exact = HTTPRequest(url: server.url + path + "?5000", responseBytesMax: 5000)
        #expect(try await client.send(exact).body.count == 5000)
        let over = HTTPRequest(url: server.url + path + "?5001", responseBytesMax: 5000)
        #expect(await code(client, over) == .bodyTooLarge)
    }

    @Test("refuses a response head over 64 KiB")
    func boundsTheHead() async throws {
        #expect(try await client.send(HTTPRequest(url: server.url + "/headers?60")).status == 200)
        #expect(await code(client, HTTPRequest(url: server.url + "/headers?70")) == .bodyTooLarge)
    }

    @Test("ends a request at its time limit")
    func timesOut() async {
        let request = HTTPRequest(url: server.url + "/hang", timeout: .milliseconds(50))
        #expect(await code(client, request) == .timeout)
    }

    @Test("reports a refused and a broken connection")
    func connectionErrors() async {
        #expect(await code(client, HTTPRequest(url: "http://127.0.0.1:1/")) == .connection)
        #expect(await code(client, HTTPRequest(url: server.url + "/drop")) == .connection)
    }

    @Test("aborts the transfer when the task is cancelled")
    func cancels() async throws {
        let server = try TestServer()
        let request = HTTPRequest(url: server.url + "/hang")
        let client = client
        let task = Task { try await client.send(request) }
        _ = try await client.send(HTTPRequest(url: server.url + "/await-hang"))
        task.cancel()
        let error = await #expect(throws: OutboundError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        _ = try await client.send(HTTPRequest(url: server.url + "/await-close"))
    }

    @Test("refuses at once in a task that is already cancelled")
    func cancelledBefore() async {
        let request = HTTPRequest(url: server.url + "/hang")
        let client = client
        let task = Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            return try await client.send(request)
        }
        let error = await #expect(throws: OutboundError.self) { try await task.value }
        #expect(error?.code == .cancelled)
    }

    @Test("ends what is under way when it is closed, and refuses later requests")
    func closes() async throws {
        let server = try TestServer()
        let closing = HTTPClient(policy: .operator)
        let request = HTTPRequest(url: server.url + "/hang")
        let task = Task { try await closing.send(request) }
        _ = try await client.send(HTTPRequest(url: server.url + "/await-hang"))
        closing.close()
        let error = await #expect(throws: OutboundError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(await code(closing, HTTPRequest(url: server.url + "/echo")) == .cancelled)
    }

    @Test(
        "refuses URLs that are not plain http or https",
        arguments: [
            "", "nonsense", "127.0.0.1:80", "//127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd",
            "gopher://127.0.0.1/", "http://",
            "http://user:password@127.0.0.1/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y",
            "http://127.0.0.1/\u{0}", "http://[::1",
        ])
    func refusesURLs(url: String) async {
        #expect(await code(client, HTTPRequest(url: url)) == .invalidURL)
    }

    @Test(
        "refuses methods and header fields that would split the request",
        arguments: [
            ("GET /", "X", "y"), ("", "X", "y"), ("GET", "X: a", "y"), ("GET", "", "y"),
            ("GET", "X", "a\r\nB: c"),
            ("GET", "X", "a\u{0}"), ("GET", "X\n", "y"),
        ])
    func refusesSplitting(method: String, name: String, value: String) async {
        let request = HTTPRequest(method: method, url: server.url + "/echo", headers: [(name, value)])
        #expect(await code(client, request) == .invalidRequest)
    }

    @Test("trusts the given authority alone")
    func trustsAuthority() async throws {
        let trusted = HTTPRequest(url: server.tlsURL + "/echo", certificateAuthorityPath: server.authority)
        #expect(try await client.send(trusted).status == 200)
        #expect(await code(client, HTTPRequest(url: server.tlsURL + "/echo")) == .tls)
        let otherName = "https://localhost:\(server.tlsPort)/echo"
        #expect(
            await code(client, HTTPRequest(url: otherName, certificateAuthorityPath: server.authority))
                == .tls)
        #expect(
            await code(client, HTTPRequest(url: server.tlsURL, certificateAuthorityPath: "/nonexistent"))
                == .tls)
    }

    @Test("speaks plain HTTP to loopback only when an operator configured the host")
    func plainHTTPIsForLoopback() async {
        let request = HTTPRequest(url: "http://192.0.2.1/", timeout: .seconds(5))
        #expect(await code(client, request) == .address)
    }

    @Test(
        "refuses every spelling of an inner address for a tenant's host",
        arguments: [
            "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1",
            "0177.0.0.1",
            "169.254.169.254", "[64:ff9b::7f00:1]", "10.0.0.1",
        ])
    func guardsAddresses(host: String) async {
        let guarded = HTTPClient(policy: .guardedAllowingHTTP)
        let request = HTTPRequest(url: "http://\(host):\(server.port)/echo", timeout: .seconds(5))
        let error = await #expect(throws: OutboundError.self) { try await guarded.send(request) }
        #expect(error?.code == .address)
        #expect(error?.message == "the host has an address that is not allowed")
    }

    @Test("refuses the installation's own listeners and plain HTTP for a tenant's host")
    func guardsOwnListeners() async {
        let guarded = HTTPClient(policy: .guardedAllowingHTTP, ownAddresses: [[9, 9, 9, 9]])
        #expect(await code(guarded, HTTPRequest(url: "http://9.9.9.9/", timeout: .seconds(5))) == .address)
        let strict = HTTPClient(policy: .guarded)
        #expect(await code(strict, HTTPRequest(url: "http://9.9.9.9/", timeout: .seconds(5))) == .invalidURL)
        #expect(await code(strict, HTTPRequest(url: server.tlsURL, timeout: .seconds(5))) == .address)
    }
}

@Suite("A body stream", .timeLimit(.minutes(1)))
struct BodyStreamTests {
    private let server: TestServer
    private let client = HTTPClient(policy: .operator)

    init() throws { server = try TestServer.shared.get() }

    @Test("hands out chunks while the response is still open")
    func streamsChunks() async throws {
        let server = try TestServer()
        var text = ""
        for try await chunk in client.stream(HTTPRequest(url: server.url + "/events")) {
            text += String(decoding: chunk, as: UTF8.self)
            _ = try await client.send(HTTPRequest(url: server.url + "/open-gate"))
        }
        #expect(text == "data: 0\n\ndata: 1\n\ndata: 2\n\n")
    }

    @Test("slows the sender down when the reader stops, and loses nothing")
    func backPressure() async throws {
        let server = try TestServer()
        let stream = client.stream(HTTPRequest(url: server.url + "/flood?160", responseBytesMax: 100_000))
        var count = 0
        var isInOrder = true
        var sentEarly = 0
        for try await chunk in stream {
            if count == 0 {
                let sent = try await client.send(HTTPRequest(url: server.url + "/sent"))
                sentEarly = Int(String(decoding: sent.body, as: UTF8.self)) ?? .max
            }
            for index in stride(from: 0, to: chunk.count, by: 1024) {
                isInOrder = isInOrder && chunk[index] == UInt8((count + index) / 65536 % 251)
            }
            count += chunk.count
        }
        #expect(count == 160 * 65536)
        #expect(isInOrder)
        #expect(sentEarly < 160 * 65536)
    }

    @Test("ends with the server's answer when the status is not 2xx")
    func refusedStatus() async throws {
        let stream = client.stream(HTTPRequest(url: server.url + "/status?404"))
        let error = await #expect(throws: OutboundError.self) { for try await _ in stream {} }
        #expect(error?.code == .status)
        #expect(error?.response?.status == 404)
        #expect(error.map { String(decoding: $0.response?.body ?? [], as: UTF8.self) } == "problem")
    }

    @Test("ends after a silence of the time limit")
    func silence() async throws {
        let stream = client.stream(HTTPRequest(url: server.url + "/silent", timeout: .milliseconds(200)))
        var text = ""
        let error = await #expect(throws: OutboundError.self) {
            for try await chunk in stream { text += String(decoding: chunk, as: UTF8.self) }
        }
        #expect(error?.code == .timeout)
        #expect(text == "first")
    }

    @Test("aborts the transfer when the reader leaves early")
    func dropped() async throws {
        let server = try TestServer()
        do {
            let stream = client.stream(HTTPRequest(url: server.url + "/silent"))
            for try await _ in stream { break }
        }
        _ = try await client.send(HTTPRequest(url: server.url + "/await-close"))
    }

    @Test("aborts the transfer when the reading task is cancelled")
    func cancelled() async throws {
        let server = try TestServer()
        let client = client
        let request = HTTPRequest(url: server.url + "/hang")
        let task = Task { for try await _ in client.stream(request) {} }
        _ = try await client.send(HTTPRequest(url: server.url + "/await-hang"))
        task.cancel()
        _ = await task.result
        _ = try await client.send(HTTPRequest(url: server.url + "/await-close"))
    }

    @Test("refuses an invalid request at the first read")
    func invalid() async throws {
        let stream = client.stream(HTTPRequest(url: "ftp://127.0.0.1/"))
        let error = await #expect(throws: OutboundError.self) { for try await _ in stream {} }
        #expect(error?.code == .invalidURL)
    }
}
