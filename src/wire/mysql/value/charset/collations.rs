//! The character set of every collation of MySQL and MariaDB. A number means the same set on all of them; MariaDB's
//! from 2,048 on are the Unicode collations 14.0.0. Written by the exactness tests.

use super::Charset::{self, *};

/// First and last number of a run of collations of one set, in order. A number in between that no server uses is none
/// of ours to refuse.
#[rustfmt::skip]
pub const COLLATIONS: &[(u16, u16, Charset)] = &[
    (1, 1, Big5), (2, 2, Latin2), (3, 3, Dec8), (4, 4, Cp850), (5, 5, Latin1), (6, 6, Hp8), (7, 7, Koi8r),
    (8, 8, Latin1), (9, 9, Latin2), (10, 10, Swe7), (11, 11, Ascii), (12, 12, Ujis), (13, 13, Sjis), (14, 14, Cp1251),
    (15, 15, Latin1), (16, 16, Hebrew), (18, 18, Tis620), (19, 19, Euckr), (20, 20, Latin7), (21, 21, Latin2),
    (22, 22, Koi8u), (23, 23, Cp1251), (24, 24, Gb2312), (25, 25, Greek), (26, 26, Cp1250), (27, 27, Latin2),
    (28, 28, Gbk), (29, 29, Cp1257), (30, 30, Latin5), (31, 31, Latin1), (32, 32, Armscii8), (33, 33, Utf8mb3),
    (34, 34, Cp1250), (35, 35, Ucs2), (36, 36, Cp866), (37, 37, Keybcs2), (38, 38, Macce), (39, 39, Macroman),
    (40, 40, Cp852), (41, 42, Latin7), (43, 43, Macce), (44, 44, Cp1250), (45, 46, Utf8mb4), (47, 49, Latin1),
    (50, 52, Cp1251), (53, 53, Macroman), (54, 55, Utf16), (56, 56, Utf16le), (57, 57, Cp1256), (58, 59, Cp1257),
    (60, 61, Utf32), (62, 62, Utf16le), (63, 63, Binary), (64, 64, Armscii8), (65, 65, Ascii), (66, 66, Cp1250),
    (67, 67, Cp1256), (68, 68, Cp866), (69, 69, Dec8), (70, 70, Greek), (71, 71, Hebrew), (72, 72, Hp8),
    (73, 73, Keybcs2), (74, 74, Koi8r), (75, 75, Koi8u), (76, 76, Utf8mb3), (77, 77, Latin2), (78, 78, Latin5),
    (79, 79, Latin7), (80, 80, Cp850), (81, 81, Cp852), (82, 82, Swe7), (83, 83, Utf8mb3), (84, 84, Big5),
    (85, 85, Euckr), (86, 86, Gb2312), (87, 87, Gbk), (88, 88, Sjis), (89, 89, Tis620), (90, 90, Ucs2), (91, 91, Ujis),
    (92, 93, Geostd8), (94, 94, Latin1), (95, 96, Cp932), (97, 98, Eucjpms), (99, 99, Cp1250), (101, 124, Utf16),
    (128, 159, Ucs2), (160, 183, Utf32), (192, 223, Utf8mb3), (224, 247, Utf8mb4), (248, 250, Gb18030),
    (255, 323, Utf8mb4), (576, 579, Utf8mb3), (608, 611, Utf8mb4), (640, 642, Ucs2), (672, 674, Utf16),
    (736, 738, Utf32), (1025, 1025, Big5), (1027, 1027, Dec8), (1028, 1028, Cp850), (1030, 1030, Hp8),
    (1031, 1031, Koi8r), (1032, 1032, Latin1), (1033, 1033, Latin2), (1034, 1034, Swe7), (1035, 1035, Ascii),
    (1036, 1036, Ujis), (1037, 1037, Sjis), (1040, 1040, Hebrew), (1042, 1042, Tis620), (1043, 1043, Euckr),
    (1046, 1046, Koi8u), (1048, 1048, Gb2312), (1049, 1049, Greek), (1050, 1050, Cp1250), (1052, 1052, Gbk),
    (1054, 1054, Latin5), (1056, 1056, Armscii8), (1057, 1057, Utf8mb3), (1059, 1059, Ucs2), (1060, 1060, Cp866),
    (1061, 1061, Keybcs2), (1062, 1062, Macce), (1063, 1063, Macroman), (1064, 1064, Cp852), (1065, 1065, Latin7),
    (1067, 1067, Macce), (1069, 1070, Utf8mb4), (1071, 1071, Latin1), (1074, 1075, Cp1251), (1077, 1077, Macroman),
    (1078, 1079, Utf16), (1080, 1080, Utf16le), (1081, 1081, Cp1256), (1082, 1083, Cp1257), (1084, 1085, Utf32),
    (1086, 1086, Utf16le), (1088, 1088, Armscii8), (1089, 1089, Ascii), (1090, 1090, Cp1250), (1091, 1091, Cp1256),
    (1092, 1092, Cp866), (1093, 1093, Dec8), (1094, 1094, Greek), (1095, 1095, Hebrew), (1096, 1096, Hp8),
    (1097, 1097, Keybcs2), (1098, 1098, Koi8r), (1099, 1099, Koi8u), (1101, 1101, Latin2), (1102, 1102, Latin5),
    (1103, 1103, Latin7), (1104, 1104, Cp850), (1105, 1105, Cp852), (1106, 1106, Swe7), (1107, 1107, Utf8mb3),
    (1108, 1108, Big5), (1109, 1109, Euckr), (1110, 1110, Gb2312), (1111, 1111, Gbk), (1112, 1112, Sjis),
    (1113, 1113, Tis620), (1114, 1114, Ucs2), (1115, 1115, Ujis), (1116, 1117, Geostd8), (1119, 1120, Cp932),
    (1121, 1122, Eucjpms), (1125, 1147, Utf16), (1152, 1174, Ucs2), (1184, 1206, Utf32), (1216, 1238, Utf8mb3),
    (1248, 1270, Utf8mb4), (2048, 2247, Utf8mb3), (2304, 2503, Utf8mb4), (2560, 2759, Ucs2), (2816, 3015, Utf16),
    (3072, 3271, Utf32),
];
