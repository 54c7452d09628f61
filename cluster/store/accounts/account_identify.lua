-- Keeps the public identity of a user's client. The user need not have an
-- account.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
-- ARGV[1]  identity
--
-- When Redis is full: goes on.
-- Returns 1 if it was another before, or none, else 0.
local account, identity = KEYS[1], ARGV[1]

if redis.call('HGET', account, 'identity') == identity then
  return 0
end
redis.call('HDEL', account, '') -- nothing, and not refused
redis.call('HSET', account, 'identity', identity)
return 1
