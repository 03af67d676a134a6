package import Domain
import Redis

extension Queue {
    /// The most and the least that one run costs.
    package static let costs = 0.001...86_400.0

    /// Says what runs have cost that have ended: their organizations are charged what that was beyond the
    /// average that their claims were charged, and later claims the new average. A run costs 1 where nothing
    /// is known.
    package func charge(_ costs: [(organization: OrganizationID, cost: Double)], epoch: Epoch) async throws {
        _ = try await call("charge", epoch: epoch, slicing: costs) { slice in
            slice.flatMap {
                [
                    .id($0.organization),
                    .double(min(max($0.cost, Self.costs.lowerBound), Self.costs.upperBound)),
                ]
            }
        }
    }
}
