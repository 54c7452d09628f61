-- Tells the nodes that an account is disabled.
--
-- KEYS[1]  <prefix>accounts:disabled, hash
-- ARGV[1]  user
-- ARGV[2]  since when, RFC 3339
--
-- When Redis is full: goes on.
-- Returns 1.
local disabled, user, since = KEYS[1], ARGV[1], ARGV[2]

redis.call('HDEL', disabled, '') -- nothing, and not refused
redis.call('HSET', disabled, user, since)
return 1
