import Domain
import Foundation
import Glibc
import Redis
import TestSupport
import Testing

@testable import Streams

/// What needs a server of its own: its memory limit, its statistics, the loss of all data.
@Suite struct PrivateServerTests {
    @Test("At the memory limit nothing is admitted, and everything that makes room goes on")
    func full() async throws {
        try await PrivateServer.run { bench in
            let organization = Draw.organization()
            let gateway = Draw.gateway()
            let entries = Draw.entries(8)
            try await bench.enqueue(entries, organization)
            let running = try await bench.claim(2)
            try await bench.start(running)
            let leased = try await bench.claim(2)
            _ = try await bench.connection.send(RedisCommand("CONFIG", "SET", "maxmemory", 1))
            await #expect(throws: QueueError.full) { try await bench.enqueue(Draw.entries(1), organization) }
            await #expect(throws: QueueError.full) {
                try await bench.enqueue(Draw.entries(200), organization)
            }
            await #expect(throws: QueueError.full) {
                try await bench.queue.refill(
                    organization.queue(), version: 1, entries: Draw.entries(1),
                    more: false,
                    epoch: bench.epoch)
            }
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            try await bench.start([leased[0]])
            try await bench.queue.release([leased[1]], delayMilliseconds: 0, epoch: bench.epoch)
            try await bench.queue.cancel([(organization, entries[7].run)], epoch: bench.epoch)
            _ = try await bench.queue.present(device: entries[0].device, gateway: gateway, epoch: bench.epoch)
            _ = try await bench.queue.deliver([Letter(gateway: gateway, payload: [1])])
            try await bench.settle(running)
            try await bench.finish(try await bench.claim())
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.queue.runningCount(organization) == 1)
        }
    }

    @Test("FLUSHALL leaves the functions and no epoch; a rebuild lets everything be admitted again")
    func flushed() async throws {
        try await PrivateServer.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(3)
            try await bench.enqueue(entries, organization)
            let claims = try await bench.claim(2)
            _ = try await bench.connection.send(RedisCommand("FLUSHALL"))
            await #expect(throws: QueueError.staleEpoch(current: nil)) { try await bench.start(claims) }
            let next = Epoch.fresh()
            let dispatched = Membership(
                organization: organization, run: claims[0].run, generation: 1, device: claims[0].device,
                deadlineMilliseconds: 1)
            try await bench.queue.rebuild(epoch: next, entitlements: [], running: [dispatched])
            let new = Bench(place: bench.place, epoch: next)
            #expect(try await new.enqueue(entries, organization) == .admitted(2))
            #expect(try await new.claim().map(\.run) == entries.dropFirst().map(\.run))
            try await new.invariants()
        }
    }

    @Test("What waits does not change how many commands a claim and its end take")
    func depthIndependence() async throws {
        try await PrivateServer.run { bench in
            var costs: [Int] = []
            for depth in [20, 250] {
                try await bench.enqueue(Draw.entries(depth), Draw.organization())
                try await bench.finish(try await bench.claim(1))
                let before = try await commands(bench)
                try await bench.finish(try await bench.claim(10))
                costs.append(try await commands(bench) - before)
                try await bench.finish(try await bench.claim(depth - 11))
                while case let claims = try await bench.claim(), !claims.isEmpty {
                    try await bench.finish(claims)
                }
            }
            #expect(costs[0] == costs[1])
        }
    }

    /// Commands that the server has carried out, those inside functions included.
    private func commands(_ bench: Bench) async throws -> Int {
        let text = try await bench.connection.send(RedisCommand("INFO", "commandstats")).text ?? ""
        return text.split(whereSeparator: \.isNewline).reduce(0) { sum, line in
            let calls = line.split(separator: "calls=").dropFirst().first?.prefix { $0.isNumber }
            return sum + (calls.flatMap { Int($0) } ?? 0)
        }
    }
}

/// A Redis server in a temporary directory, for one test.
private enum PrivateServer {
    static func run(_ body: (Bench) async throws -> Void) async throws {
        let directory = URL(filePath: "/tmp/crmm-redis-\(UInt32.random(in: .min ... .max))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        let socket = directory.appending(path: "redis.sock").path()
        let server = Process()
        server.executableURL = URL(filePath: "/usr/bin/redis-server")
        server.arguments = ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory.path()]
        server.standardOutput = FileHandle.nullDevice
        try server.run()
        defer {
            kill(server.processIdentifier, SIGKILL)
            try? FileManager.default.removeItem(at: directory)  // what is left of a failed test does no harm
        }
        try await Bench.run(on: RedisConfiguration(url: "unix://\(socket)"), body)
    }
}
