-- Reserves of an account's quota what a session may take, before it is created.
-- (After quota.lua.)
-- KEYS[1] = conclave:quota:{user}        hash
-- KEYS[2] = conclave:quota:{user}:open   hash
-- KEYS[3] = conclave:quota:{user}:keys   hash
-- ARGV    = session id, bytes, …, as reserve takes them
-- When Redis is full: refused
-- returns  {"granted", 1 if it is new, "long" or "brief"}; or {"refused", limit, ms until there is room, id of an overdue session, ...}
return reserve(KEYS[1], KEYS[2], KEYS[3], ARGV)
