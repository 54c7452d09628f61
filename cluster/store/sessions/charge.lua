-- Counts bytes that an account stores for a time beside its sessions. (After quota.lua.)
-- KEYS[1] = conclave:quota:{user}        hash
-- ARGV[1] = bytes
-- ARGV[2] = ms for which they are kept if for long
-- ARGV[3] = ms for which they are kept if briefly
-- ARGV[4] = most bytes that are kept long, negative for no limit
-- ARGV[5] = most bytes that are kept briefly
-- ARGV[6] = ms that the counts live
-- When Redis is full: refused
-- returns  {"granted", the bucket that they are in, "long" or "brief"}; or {"refused", limit, ms until there is room}
local at, bytes = now(), tonumber(ARGV[1])
local n = counted(KEYS[1], at)
local tier, wait = tiered(KEYS[1], n, bytes, {tonumber(ARGV[4]), tonumber(ARGV[5])}, at)
if not tier then
  return refused(KEYS[1], nil, 'ended_bytes', wait, at)
end
local bucket = keep(KEYS[1], tier, bytes, tonumber(tier == 'long' and ARGV[2] or ARGV[3]), at)
redis.call('HINCRBY', KEYS[1], tier, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return {'granted', bucket, tier}
