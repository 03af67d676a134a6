import Foundation
import Testing

/// A small HTTP and HTTPS server in an own process on loopback; it ends with this value or with the tests.
final class TestServer: Sendable {
    /// For tests that need no counters of their own.
    static let shared = Result { try TestServer() }

    let port: Int
    let tlsPort: Int
    let authority: String
    private let process: Process
    private let input: Pipe

    var url: String { "http://127.0.0.1:\(port)" }
    var tlsURL: String { "https://127.0.0.1:\(tlsPort)" }

    init() throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "outbound-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        authority = directory.appending(path: "certificate.pem").path
        let script = directory.appending(path: "server.py")
        try Self.script.write(to: script, atomically: true, encoding: .utf8)
        process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", script.path]
        process.currentDirectoryURL = directory
        input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data("\n".utf8) {
            if byte.isEmpty { break }
            line += byte
        }
        let ports = String(decoding: line, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        try #require(ports.count == 2, "the test server did not start; it needs python3 and openssl")
        port = ports[0]
        tlsPort = ports[1]
    }

    deinit {
        // The script ends when its input does; a failed close leaves that to the end of this process.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    private static let script = #"""
        import http.server, json, os, shutil, ssl, subprocess, sys, threading
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-days", "2", "-subj", "/CN=test",
            "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        hung, closed, gate = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)
        sent = [0]

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *arguments): pass
            def answer(self, body, status=200, headers=()):
                self.send_response(status)
                for name, value in headers: self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD": self.wfile.write(body)
            def begin_chunks(self):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
            def chunk(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            def await_close(self):
                hung.release()
                self.close_connection = True
                try:
                    while self.rfile.read(1): pass
                except OSError: pass
                closed.release()
            def serve(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                path, _, argument = self.path.partition("?")
                if path == "/echo":
                    self.answer(json.dumps({"method": self.command, "body": body.decode(),
                        "peer": self.client_address[1],
                        "headers": {k.lower(): v for k, v in self.headers.items()}}).encode(),
                        headers=[("X-Mixed", "  One "), ("X-Two", "a"), ("X-Two", "b")])
                elif path == "/status": self.answer(b"problem", status=int(argument))
                elif path == "/redirect": self.answer(b"", status=302, headers=[("Location", "/echo")])
                elif path == "/bytes": self.answer(b"x" * int(argument))
                elif path == "/unannounced":
                    self.begin_chunks()
                    self.chunk(b"x" * int(argument))
                    self.chunk(b"")
                elif path == "/headers":
                    self.answer(b"", headers=[("X-%d" % i, "y" * 1000) for i in range(int(argument))])
                elif path == "/hang": self.await_close()
                elif path == "/await-hang": hung.acquire(); self.answer(b"")
                elif path == "/await-close": closed.acquire(); self.answer(b"")
                elif path == "/open-gate": gate.release(); self.answer(b"")
                elif path == "/drop":
                    self.close_connection = True
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
                elif path == "/events":
                    self.begin_chunks()
                    for i in range(3):
                        self.chunk(b"data: %d\n\n" % i)
                        gate.acquire()
                    self.chunk(b"")
                elif path == "/silent":
                    self.begin_chunks()
                    self.chunk(b"first")
                    self.await_close()
                elif path == "/flood":
                    self.begin_chunks()
                    for i in range(int(argument)):
                        self.chunk(bytes([i % 251]) * 65536)
                        sent[0] += 65536
                    self.chunk(b"")
                elif path == "/sent": self.answer(str(sent[0]).encode())
            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256
            def handle_error(self, *arguments): pass

        plain, secure = Server(("127.0.0.1", 0), Handler), Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("certificate.pem", "key.pem")
        secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        for server in (plain, secure): threading.Thread(target=server.serve_forever, daemon=True).start()
        print(plain.server_address[1], secure.server_address[1], flush=True)
        sys.stdin.read()
        shutil.rmtree(os.getcwd())
        os._exit(0)
        """#
}
