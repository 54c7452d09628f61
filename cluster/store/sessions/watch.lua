-- Notes that a node wants to be told of a session's commits.
-- KEYS[1] = conclave:session:{id}         hash
-- KEYS[2] = conclave:session:{id}:watch   set
-- ARGV[1] = node id
-- ARGV[2] = ms for which it wants to
-- When Redis is full: goes on
-- returns  the session's version; false if there is no such session
local version = redis.call('HGET', KEYS[1], 'version')
if version then
  redis.call('SREM', KEYS[2], '') -- nothing, and not refused
  redis.call('SADD', KEYS[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return version
