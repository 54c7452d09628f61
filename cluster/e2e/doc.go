// Package e2e has the tests of whole clusters: real conclaved processes on a real
// redis-server (or an in-memory one, if it is not installed), real clients, and real
// faults. It has no code.
//
// Start with process_test.go, the harness: newCluster starts nodes as processes,
// eachCluster runs a test on each kind of Redis, seedClient speaks the protocol as
// written. The files are named after their suites:
//
//	seed, conformance, web…    the protocol, the web API and its documents as users meet them
//	mpc, cli, websign          real keygens and signings, through the SDK and the command line
//	hostile, capture, blame    servers, members and accounts that do their worst
//	matrix, soak, faults       what operators and networks do to Redis, nodes and clocks
//	overload, full…, quota     floods, crowds, full mailboxes and a full Redis
//	haproxy, nginx, shards     load balancers, Sentinel and Redis Cluster
//	durability, restore, rollback   failovers that lose writes, older files, backups
//	imports, docs, readme, keys     the import graph, and pages compared with the programs
//
// The sample that runs by default takes minutes; CONCLAVE_FULL=1 runs all of it.
package e2e
