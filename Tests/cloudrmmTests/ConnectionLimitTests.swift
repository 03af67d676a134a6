import Process
import Testing

@testable import cloudrmm

struct ConnectionLimitTests {
    @Test("A gateway leaves 500 descriptors to the rest of its process, or half of few")
    func limit() throws {
        for (descriptors, connections) in [(1_024, 524), (1_001, 501), (1_000, 500), (999, 499), (64, 32)] {
            #expect(connectionsMax(descriptors: descriptors) == connections, "\(descriptors)")
        }
        let limit = try DescriptorLimit.raise()
        #expect(limit >= 256)
        #expect(try DescriptorLimit.raise() == limit, "it is as high as it may be")
    }
}
