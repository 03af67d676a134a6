import Foundation
import Synchronization

/// An identity provider in a process of its own on loopback, by HTTP and by HTTPS: it serves what a test
/// tells it to and counts who asks. It ends with this value or with the tests.
package final class ProviderServer: Sendable {
    /// Where it listens, and who issued its certificate.
    package let url: String
    package let tlsURL: String
    package let authority: String
    private let process: Foundation.Process
    private let input = Pipe()
    private let output = Pipe()
    private let talk = Mutex(())

    /// Starts one.
    package init() throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "provider-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        authority = directory.appending(path: "certificate.pem").path
        let script = directory.appending(path: "server.py")
        try Self.script.write(to: script, atomically: true, encoding: .utf8)
        process = Foundation.Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", script.path]
        process.currentDirectoryURL = directory
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let ports = try Self.line(output).split(separator: " ").compactMap { Int($0) }
        guard ports.count == 2 else {
            throw Unprepared("the provider did not start; it needs python3 and openssl")
        }
        url = "http://127.0.0.1:\(ports[0])"
        tlsURL = "https://127.0.0.1:\(ports[1])"
    }

    deinit {
        // The script ends when its input does; a failed close leaves that to the end of this process.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// Serves a discovery document and these keys for an issuer at this server.
    package func publish(
        _ keys: [String], issuer: String? = nil, cacheControl: String = "max-age=600", keysURL: String? = nil,
        namesItself: Bool = false
    ) throws {
        let issuer = issuer ?? url
        try set(
            "/.well-known/openid-configuration",
            #"{"issuer":"\#(issuer)","jwks_uri":"\#(keysURL ?? issuer + "/keys")","#
                + #""authorization_endpoint":"\#(issuer)/authorize","token_endpoint":"\#(issuer)/token","#
                + #""authorization_response_iss_parameter_supported":\#(namesItself)}"#)
        try set("/keys", #"{"keys":[\#(keys.joined(separator: ","))]}"#, cacheControl: cacheControl)
    }

    /// Serves a body at a path.
    package func set(
        _ path: String, _ body: String, status: Int = 200, cacheControl: String = "", location: String = "",
        hangs: Bool = false
    ) throws {
        _ = try ask([
            "set": path, "body": body, "status": status, "location": location, "hangs": hangs,
            "cache": cacheControl,
        ])
    }

    /// Gives an ID token for a code, once, to who proves that it began with this challenge and address, and
    /// shows this Authorization: what `/authorize` would do once somebody has signed in.
    package func grant(
        code: String, challenge: String, redirectURL: String, clientID: String, authorization: String = "",
        idToken: String
    ) throws {
        _ = try ask([
            "grant": code, "challenge": challenge, "redirect": redirectURL, "client": clientID,
            "authorization": authorization, "token": idToken,
        ])
    }

    /// How often a path was asked for, and with which Authorization the last time.
    package func requests(_ path: String) throws -> (count: Int, authorization: String) {
        let parts = try ask(["count": path]).split(separator: " ", maxSplits: 1).map(String.init)
        return (Int(parts.first ?? "") ?? -1, parts.count > 1 ? parts[1] : "")
    }

    private func ask(_ question: [String: Any]) throws -> String {
        let line = try JSONSerialization.data(withJSONObject: question) + Data("\n".utf8)
        return try talk.withLock { _ in
            try input.fileHandleForWriting.write(contentsOf: line)
            return try Self.line(output)
        }
    }

    private static func line(_ output: Pipe) throws -> String {
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data("\n".utf8) {
            if byte.isEmpty { break }
            line += byte
        }
        return String(decoding: line, as: UTF8.self)
    }

    private static let script = #"""
        import base64, hashlib, http.server, json, os, shutil, ssl, subprocess, sys, threading, urllib.parse
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-days", "2", "-subj", "/CN=test",
            "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        pages, counts, last, grants = {}, {}, {}, {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *arguments): pass
            def do_GET(self):
                counts[self.path] = counts.get(self.path, 0) + 1
                last[self.path] = self.headers.get("Authorization") or ""
                page = pages.get(self.path, {"status": 404, "body": "", "location": "", "cache": ""})
                if page.get("hangs"):
                    self.close_connection = True
                    try:
                        while self.rfile.read(1): pass
                    except OSError: pass
                    return
                body = page["body"].encode()
                self.send_response(page["status"])
                if page["location"]: self.send_header("Location", page["location"])
                if page["cache"]: self.send_header("Cache-Control", page["cache"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                counts[self.path] = counts.get(self.path, 0) + 1
                last[self.path] = self.headers.get("Authorization") or ""
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                form = dict(urllib.parse.parse_qsl(text, strict_parsing=True))
                grant = grants.pop(form.get("code"), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                good = (grant is not None and self.path == "/token"
                    and form.get("grant_type") == "authorization_code"
                    and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == grant["challenge"]
                    and form.get("redirect_uri") == grant["redirect"]
                    and form.get("client_id") == grant["client"]
                    and last[self.path] == grant["authorization"])
                answer = {"id_token": grant["token"], "access_token": "a", "token_type": "Bearer"} if good \
                    else {"error": "invalid_grant"}
                body = json.dumps(answer).encode()
                self.send_response(200 if good else 400)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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
        for line in sys.stdin:
            question = json.loads(line)
            if "set" in question:
                pages[question["set"]] = question
                print("ok", flush=True)
            elif "grant" in question:
                grants[question["grant"]] = question
                print("ok", flush=True)
            else:
                path = question["count"]
                print(counts.get(path, 0), last.get(path, ""), flush=True)
        shutil.rmtree(os.getcwd())
        os._exit(0)
        """#
}
