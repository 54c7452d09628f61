-- Takes the lock of changes that may take the last admin away.
--
-- KEYS[1]  <prefix>accounts:lock, string
-- ARGV[1]  token of who takes it
-- ARGV[2]  after which it ends by itself, ms
--
-- When Redis is full: goes on.
-- Returns 1 if it is taken, 0 if somebody else has it.
local key, token, life = KEYS[1], ARGV[1], ARGV[2]

if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('DEL', key) -- nothing, and not refused
redis.call('SET', key, token, 'PX', life)
return 1
