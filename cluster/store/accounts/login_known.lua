-- Notes the network that an account was logged in to from.
--
-- KEYS[1]  <prefix>known:{<user>}, zset, networks by ms of the last login
-- ARGV[1]  the network's name
-- ARGV[2]  how many are kept
-- ARGV[3]  ms that they are kept from now on
--
-- When Redis is full: goes on.
-- Returns 1.
local known, name, most, life = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]

redis.call('ZREM', known, '') -- nothing, and not refused
local time = redis.call('TIME')
redis.call('ZADD', known, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), name)
redis.call('ZREMRANGEBYRANK', known, 0, -(most + 1))
redis.call('PEXPIRE', known, life)
return 1
