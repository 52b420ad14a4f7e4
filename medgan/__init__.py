"""medgan: medical image domain translation whose geometry is exact and whose claims carry evidence."""

from medgan import habits

habits.adopt()
