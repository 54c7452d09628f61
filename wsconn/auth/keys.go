package auth

// The keys in Redis of an account's logins; those of accounts and revocations
// are beside their types.

// knownKey names the networks that a user has logged in from: a zset of hashes by
// the ms of the last login, at most knownNetworks, for knownFor after the last one.
// Written after a login, read before one. The user must be a wire.ValidID. It is
// in the slot of the user's account.
func knownKey(prefix, user string) string { return prefix + "known:{" + user + "}" }

// accountsLockKey names the lock under which admins are taken away: a token, of
// whoever does it, set and removed by that. TTL: adminsLockFor.
func accountsLockKey(prefix string) string { return prefix + "accounts:lock" }

// loginsKey names the budgets of failed logins of the accounts in one of
// loginBuckets buckets: a hash of fields to when, in ms, the budget will be whole
// again. Written and read before each login, and after one that succeeds. TTL:
// until all are whole, a day at most.
func loginsKey(prefix, bucket string) string { return prefix + "login:{" + bucket + "}" }

// loginsFromKey names the budget of failed logins of one network, by its hash: as
// loginsKey's, with one field. TTL: until it is whole, a minute at most.
func loginsFromKey(prefix, network string) string { return prefix + "login-from:{" + network + "}" }

// loginsOfKey names a user's logins that can be renewed: a hash of their ids to
// JSON with the number of the next refresh token, label, and began, renewed and
// until_ms in ms; at most maxLoginsOfUser. Written by each login that asks for a
// refresh token and each renewal, read by them and by who lists them. TTL: until
// the last one can be renewed no more. The user must be a wire.StoredID.
func loginsOfKey(prefix, user string) string { return prefix + "logins:{" + user + "}" }
