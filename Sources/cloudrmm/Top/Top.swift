import ArgumentParser
import Client
import Domain
import Foundation
import Outbound
import Process
import Trust
import UnixSignals
import Wire

extension Queues {
    /// `cloudrmm queues top`
    struct Top: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Watch the queues live: depth, age, rates, share against entitlement.",
            discussion: "Keys: s sort, / filter, p pause or resume the selected organization, q quit.")
        @Option(help: "Seconds between two looks.") var interval = 1.0
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard (0.2...60).contains(interval) else {
                throw ValidationError("--interval is \(interval); allowed are 0.2 to 60")
            }
        }

        func run() async throws {
            try await operate(connection) { api in
                guard Terminal.isInteractive, isatty(STDIN_FILENO) == 1 else {
                    throw Failure(.usage, "top needs a terminal; `cloudrmm queues list` does not")
                }
                try await TopShell(api: api, interval: .seconds(interval)).run()
            }
        }
    }
}

/// Moves the screen by keys, signals and answers, and keeps the terminal whole.
struct TopShell {
    let api: APIClient
    let interval: Duration

    private enum Event: Sendable {
        case keys([UInt8])
        case resized
        case answer(TopData)
        case failure(String)
        case said(String)
        case tick
        case end
    }

    /// Runs until somebody ends it; the terminal is as it was, however that comes.
    func run() async throws {
        // A stop by a signal must pass by the end below.
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup, .sigwinch)
        let (events, source) = AsyncStream.makeStream(of: Event.self, bufferingPolicy: .bufferingNewest(256))
        try TerminalScreen.begin(STDIN_FILENO)
        show("\u{1B}[?1049h\u{1B}[?25l")
        defer {
            show("\u{1B}[0m\u{1B}[?25h\u{1B}[?1049l")
            TerminalScreen.end()
        }
        try TerminalScreen.readKeys(from: STDIN_FILENO) { keys in
            source.yield(keys.isEmpty ? .end : .keys(keys))
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await signal in signals { source.yield(signal == .sigwinch ? .resized : .end) }
            }
            group.addTask { await look(source) }
            group.addTask {
                while !Task.isCancelled {
                    source.yield(.tick)
                    // Cancellation ends the wait early, which is what is wanted.
                    try? await Task.sleep(for: .seconds(1))
                }
            }
            await draw(events, source, &group)
            group.cancelAll()
        }
    }

    private func draw(
        _ events: AsyncStream<Event>, _ source: AsyncStream<Event>.Continuation,
        _ group: inout TaskGroup<Void>
    ) async {
        var screen = TopScreen()
        if let size = TerminalScreen.size(of: STDOUT_FILENO) { screen.size = size }
        for await event in events {
            switch event {
            case .keys(let keys):
                switch screen.press(keys) {
                case .none: break
                case .quit: return
                case .pause(let id): group.addTask { await hold(id, source, isPause: true) }
                case .resume(let id): group.addTask { await hold(id, source, isPause: false) }
                }
            case .resized: if let size = TerminalScreen.size(of: STDOUT_FILENO) { screen.size = size }
            case .answer(let data): screen.answered(data, at: .now())
            case .failure(let reason): screen.failed(reason)
            case .said(let text): screen.say(text)
            case .tick: break
            case .end: return
            }
            paint(screen.lines(at: .now()))
        }
    }

    private func paint(_ lines: [TopScreen.Line]) {
        let painted = lines.map { line in
            let style =
                switch line.style {
                case .plain: ""
                case .title: "\u{1B}[7m"
                case .selected: "\u{1B}[1;7m"
                case .warning: "\u{1B}[1m"
                }
            return style.isEmpty ? line.text : style + line.text + "\u{1B}[0m"
        }
        show("\u{1B}[H" + painted.joined(separator: "\r\n"))
    }

    private func show(_ text: String) {
        // A terminal that is gone says so by its keys.
        try? writeAll(Array(text.utf8), to: STDOUT_FILENO, path: "the terminal")
    }

    // MARK: The API

    /// Looks again and again; a look that fails is told and followed by the next.
    private func look(_ source: AsyncStream<Event>.Continuation) async {
        var names: [OrganizationID: String] = [:]
        var named: ContinuousClock.Instant?
        while !Task.isCancelled {
            do {
                if named.map({ ContinuousClock.now - $0 > .seconds(30) }) ?? true {
                    names = await readNames() ?? names
                    named = .now
                }
                let (queues, isCut) = try await pages { try await api.queues($0) }
                let (controls, _) = try await pages { try await api.controls($0) }
                source.yield(.answer(TopData(queues, names: names, controls: controls, isCut: isCut)))
            } catch {
                source.yield(.failure(sentence(of: error)))
            }
            // As above.
            try? await Task.sleep(for: interval)
        }
    }

    /// Names of organizations; a key that may not read them sees ids.
    private func readNames() async -> [OrganizationID: String]? {
        // Without an answer the look that follows says why.
        guard let (tenants, _) = try? await pages({ try await api.organizations($0) }) else { return nil }
        return Dictionary(tenants.map { (OrganizationID($0.id.value), $0.name) }) { first, _ in first }
    }

    private func pages<Item: WireObject>(
        _ read: (PageOptions) async throws -> Page<Item>
    ) async throws -> (items: [Item], isCut: Bool) {
        var items: [Item] = []
        var cursor: String?
        repeat {
            let page = try await read(PageOptions(limit: Limits.page.upperBound, cursor: cursor))
            items += page.items
            cursor = page.next
        } while cursor != nil && items.count < Self.itemsMax
        return (items, cursor != nil)
    }

    // What one look reads at the most, so that a view of many does not weigh on them.
    private static let itemsMax = 3_000

    private func hold(
        _ organization: OrganizationID, _ source: AsyncStream<Event>.Continuation, isPause: Bool
    ) async {
        let scope = QueueScope(organization: organization)
        do {
            if isPause {
                _ = try await api.pause(ControlRequest(scope))
            } else {
                _ = try await api.resume(ResumeRequest(scope, mode: .pause))
            }
            source.yield(.said("\(scope) is \(isPause ? "paused" : "resumed")"))
        } catch {
            source.yield(.said(sentence(of: error)))
        }
    }

    private func sentence(of error: any Error) -> String {
        (error as? Problem)?.line ?? "\(error)"
    }
}
