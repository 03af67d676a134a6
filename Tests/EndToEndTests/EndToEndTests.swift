import Testing

/// Real programs, agents, scripts and servers. One suite after the other: each starts servers and counts what
/// they do, and two cores are soon full.
@Suite(.serialized) enum EndToEndTests {
    /// What needs one healthy installation.
    @Suite(.serialized, OneUp()) enum HealthyTests {}
}
