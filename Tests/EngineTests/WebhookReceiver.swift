import Foundation
import Outbound
import TestSupport
import Testing

/// A receiver of webhooks in an own process on loopback, which checks signatures with Python's own library.
final class WebhookReceiver: Sendable {
    /// What it was sent.
    struct Seen: Codable, Equatable {
        var path: String
        var headers: [String: String]
        var body: String
        /// Which of the secrets that were asked for have signed it.
        var signed: [Bool]
    }

    let port: Int
    private let process: Foundation.Process
    private let input: Pipe
    private let http = HTTPClient(policy: .operator)

    var url: String { "http://127.0.0.1:\(port)" }

    init() throws {
        process = Foundation.Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", "-c", Self.script]
        input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data("\n".utf8) {
            if byte.isEmpty { break }
            line += byte
        }
        guard let port = Int(String(decoding: line, as: UTF8.self)) else {
            throw Unprepared("the receiver did not start; it needs python3")
        }
        self.port = port
    }

    deinit {
        http.close()
        // The script ends when its input does; a failed close leaves that to the end of this process.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// What it was sent so far, and which of these secrets signed it.
    func seen(_ secrets: [String] = []) async throws -> [Seen] {
        let response = try await http.send(
            HTTPRequest(url: "\(url)/seen?\(secrets.joined(separator: ","))"))
        return try JSONDecoder().decode([Seen].self, from: Data(response.body))
    }

    /// Answers all from now on so.
    func answer(_ status: Int) async throws {
        _ = try await http.send(HTTPRequest(url: "\(url)/answer?\(status)"))
    }

    /// Lets the requests to /hold go.
    func release() async throws { _ = try await http.send(HTTPRequest(url: "\(url)/release")) }

    private static let script = #"""
        import hashlib, hmac, http.server, json, os, sys, threading
        seen, lock, gate, status = [], threading.Lock(), threading.Event(), [0]

        def signed(entry, secret):
            parts = [part.split("=", 1) for part in entry["headers"]["cloudrmm-signature"].split(",")]
            time = dict(parts)["t"]
            message = "%s.%s." % (time, entry["headers"]["cloudrmm-delivery"]) + entry["body"]
            code = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
            return any(hmac.compare_digest(code, v) for name, v in parts if name == "v1")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *arguments): pass
            def answer(self, status, body=b"", headers=()):
                self.send_response(status)
                for name, value in headers: self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def do_GET(self):
                path, _, argument = self.path.partition("?")
                if path == "/answer": status[0] = int(argument)
                if path == "/release": gate.set()
                if path != "/seen": return self.answer(200)
                secrets = [secret for secret in argument.split(",") if secret]
                with lock:
                    for entry in seen: entry["signed"] = [signed(entry, secret) for secret in secrets]
                    self.answer(200, json.dumps(seen).encode())
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                with lock:
                    seen.append({"path": self.path, "body": body,
                                 "headers": {k.lower(): v for k, v in self.headers.items()}})
                if self.path == "/hold": gate.wait()
                if self.path == "/redirect": return self.answer(302, headers=[("Location", "/elsewhere")])
                if self.path == "/large": return self.answer(200, b"x" * (65 << 10))
                if self.path.startswith("/status/"): return self.answer(int(self.path[8:]))
                self.answer(status[0] or 204)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        os._exit(0)
        """#
}
