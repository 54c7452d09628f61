package accounts

// accountKey names a user's account: a hash that does not expire, written and read by
// Store. The user must be a wire.StoredID.
func accountKey(prefix, user string) string { return prefix + "account:{" + user + "}" }

// disabledKey names the hash of disabled accounts, user to since when: written with
// the account by Store, read by Revocations on every node. TTL: none.
func disabledKey(prefix string) string { return prefix + "accounts:disabled" }

// revokedKey names the stream of revocations: written by Revocations and by Store
// through it, read by Revocations on every node. TTL: auth.MaxTTL after the last
// entry; older entries are trimmed.
func revokedKey(prefix string) string { return prefix + "revoked" }

// knownKey names the networks that a user has logged in from: a zset of hashes by
// the ms of the last login, at most knownNetworks, for knownFor after the last one.
// Written after a login, read before one. The user must be a wire.ValidID. It is in
// the slot of the user's account.
func knownKey(prefix, user string) string { return prefix + "known:{" + user + "}" }

// accountsLockKey names the lock for removing admins: the holder's token, set and
// removed by the holder. TTL: adminsLockFor.
func accountsLockKey(prefix string) string { return prefix + "accounts:lock" }

// loginsKey names the budgets of failed logins of the accounts in one of
// loginBuckets buckets: a hash of fields to the time, in ms, when the budget is
// full again. Written and read before each login, and after one that succeeds. TTL:
// until all are full, a day at most.
func loginsKey(prefix, bucket string) string { return prefix + "login:{" + bucket + "}" }

// loginsFromKey names the budget of failed logins of one network, by its hash: as
// loginsKey's, with one field. TTL: until it is full, a minute at most.
func loginsFromKey(prefix, network string) string { return prefix + "login-from:{" + network + "}" }

// loginsOfKey names a user's renewable logins: a hash of their ids to JSON with the
// number of the next refresh token, label, and began, renewed and until_ms in ms;
// at most maxLoginsOfUser. Written by each login that asks for a refresh token and
// each renewal, read by these and by listings. TTL: until none can be renewed. The
// user must be a wire.StoredID.
func loginsOfKey(prefix, user string) string { return prefix + "logins:{" + user + "}" }
