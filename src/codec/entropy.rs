//! Shannon entropy of content, to the last bit as upstream records it.
//!
//! The number is part of an object's serialization, so an object's identifier depends on every bit of it:
//! another order of summation, or a logarithm that rounds otherwise, and nothing deduplicates against what
//! upstream wrote. The recorded values are reproduced by summing over the byte values in ascending order,
//! sum = sum - p · log2(p), with log2 made of a fraction and an exponent and the logarithm of the fraction taken
//! by the classic series of fdlibm (Sun Microsystems, 1993). The system's `log2` is closer to the truth and for
//! that reason differs in the last bit now and then.

/// Returns the Shannon entropy of the bytes in bits per byte: 0 for empty or uniform content, at most 8.
pub fn entropy(data: &[u8]) -> f64 {
    entropy_of_counts(&counts(data))
}

/// Returns the Shannon entropy of content in which the byte value `b` occurs `counts[b]` times.
pub fn entropy_of_counts(counts: &[u64; 256]) -> f64 {
    let total: u64 = counts.iter().sum();
    let mut sum = 0.0;
    for &count in counts.iter().filter(|&&count| count != 0) {
        let share = count as f64 / total as f64;
        sum -= share * log2(share);
    }
    sum
}

/// Counts byte values. Four tables side by side, since runs of one value would wait for themselves in a single one;
/// for small contents one table is less to clear and to add up.
fn counts(data: &[u8]) -> [u64; 256] {
    let mut total = [0_u64; 256];
    if data.len() < 2048 {
        for &byte in data {
            total[usize::from(byte)] += 1;
        }
        return total;
    }
    // A table of 32 bits per value cannot overflow within a piece.
    for piece in data.chunks(1 << 30) {
        let mut tables = [[0_u32; 256]; 4];
        let mut words = piece.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            for (at, byte) in word.to_le_bytes().into_iter().enumerate() {
                tables[at % 4][usize::from(byte)] += 1;
            }
        }
        for &byte in words.remainder() {
            tables[0][usize::from(byte)] += 1;
        }
        for (value, count) in total.iter_mut().enumerate() {
            *count += tables.iter().map(|table| u64::from(table[value])).sum::<u64>();
        }
    }
    total
}

/// log2 of a positive normal number: exact for powers of two, else log(fraction) / ln 2 + exponent.
fn log2(x: f64) -> f64 {
    let (fraction, exponent) = split(x);
    #[expect(clippy::float_cmp, reason = "one half is exact")]
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    log(fraction) * (1.0 / std::f64::consts::LN_2) + f64::from(exponent)
}

/// Splits x > 0, normal, into a fraction in \[½, 1) and a power of two.
fn split(x: f64) -> (f64, i32) {
    let bits = x.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).expect("eleven bits") - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), exponent)
}

/// The natural logarithm by fdlibm's series: with 1 + f in \[√½, √2) and s = f / (2 + f),
/// log(1 + f) = f - f²/2 + s · (f²/2 + R(s²)).
fn log(x: f64) -> f64 {
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    const L: [f64; 7] = [
        f64::from_bits(0x3fe5_5555_5555_5593),
        f64::from_bits(0x3fd9_9999_9997_fa04),
        f64::from_bits(0x3fd2_4924_9422_9359),
        f64::from_bits(0x3fcc_71c5_1d8e_78af),
        f64::from_bits(0x3fc7_4664_96cb_03de),
        f64::from_bits(0x3fc3_9a09_d078_c69f),
        f64::from_bits(0x3fc2_f112_df3e_5244),
    ];
    let (mut fraction, mut exponent) = split(x);
    if fraction < std::f64::consts::SQRT_2 / 2.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (L[0] + s4 * (L[2] + s4 * (L[4] + s4 * L[6])));
    let even = s4 * (L[1] + s4 * (L[3] + s4 * L[5]));
    let half = 0.5 * f * f;
    k * LN2_HIGH - ((half - (s * (half + (odd + even)) + k * LN2_LOW)) - f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_contents() {
        assert_eq!(entropy(b"").to_bits(), 0.0_f64.to_bits());
        assert_eq!(entropy(&[7; 1000]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(entropy(b"abab").to_bits(), 1.0_f64.to_bits());
        let all: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        assert_eq!(entropy(&all).to_bits(), 8.0_f64.to_bits());
    }

    #[test]
    fn counting_misses_nothing() {
        for len in [0, 1, 7, 8, 9, 2047, 2048, 4099] {
            let data: Vec<u8> = (0..len).map(|i: u32| u8::try_from(i * i % 251).unwrap()).collect();
            let mut expected = [0; 256];
            for &byte in &data {
                expected[usize::from(byte)] += 1;
            }
            assert_eq!(counts(&data), expected);
        }
    }

    enum Counts {
        Sparse(&'static [(usize, u64)]),
        Dense(&'static [u64; 256]),
    }
    use Counts::{Dense, Sparse};

    /// Byte counts of chunks that upstream wrote, and the entropy it recorded for them. The two dense ones are
    /// among those where a correctly rounded logarithm gives another last bit.
    #[rustfmt::skip]
    const RECORDED: &[(u64, Counts)] = &[
        (0x401f_ff17_642f_88e4, Dense(&[767, 774, 737, 760, 751, 733, 808, 731, 781, 763, 744, 748, 776, 747, 780, 794, 773, 771, 700, 761, 747, 803, 769, 739, 742, 727, 738, 765, 741, 783, 767, 772, 761, 793, 779, 758, 829, 743, 778, 778, 803, 794, 735, 797, 773, 753, 739, 756, 757, 743, 752, 751, 750, 777, 761, 784, 762, 742, 802, 732, 766, 793, 746, 768, 704, 747, 737, 738, 744, 779, 751, 827, 738, 729, 741, 785, 787, 744, 746, 703, 797, 792, 778, 744, 721, 732, 754, 780, 699, 767, 731, 799, 763, 718, 832, 770, 751, 796, 736, 762, 775, 766, 760, 787, 765, 740, 766, 783, 762, 789, 760, 715, 788, 805, 785, 763, 744, 739, 768, 740, 779, 785, 783, 791, 714, 776, 774, 775, 764, 749, 779, 746, 797, 754, 772, 746, 767, 758, 726, 741, 795, 737, 811, 777, 744, 792, 779, 759, 781, 772, 745, 746, 732, 766, 769, 763, 735, 778, 778, 746, 819, 752, 757, 738, 773, 762, 747, 815, 743, 749, 776, 738, 769, 779, 800, 821, 763, 775, 773, 764, 811, 773, 780, 796, 750, 797, 765, 784, 800, 759, 740, 710, 761, 772, 775, 798, 804, 763, 743, 817, 702, 762, 762, 746, 702, 749, 745, 804, 759, 745, 813, 737, 755, 769, 755, 807, 813, 786, 810, 754, 777, 812, 772, 773, 773, 808, 719, 765, 766, 753, 750, 794, 796, 788, 756, 826, 810, 808, 786, 753, 712, 758, 787, 741, 757, 750, 717, 773, 791, 739, 779, 781, 781, 757, 763, 849])),
        (0x401f_fd4a_8835_50ba, Dense(&[250, 315, 304, 305, 303, 287, 274, 279, 267, 257, 273, 269, 299, 268, 276, 269, 266, 275, 267, 279, 272, 234, 282, 266, 292, 270, 260, 301, 303, 258, 289, 276, 300, 270, 264, 284, 265, 277, 285, 263, 293, 285, 284, 281, 293, 282, 294, 313, 299, 285, 270, 297, 286, 289, 260, 271, 287, 296, 237, 294, 280, 258, 271, 294, 299, 256, 298, 272, 266, 312, 281, 270, 292, 293, 278, 294, 291, 300, 317, 264, 272, 290, 261, 261, 266, 274, 300, 300, 267, 269, 277, 273, 268, 267, 251, 288, 261, 261, 276, 275, 302, 293, 289, 310, 257, 279, 291, 276, 294, 279, 292, 292, 314, 289, 251, 283, 263, 268, 295, 270, 265, 268, 242, 274, 268, 302, 280, 291, 270, 273, 267, 250, 251, 309, 285, 288, 238, 297, 256, 304, 304, 307, 278, 266, 282, 272, 277, 273, 298, 254, 309, 263, 319, 269, 266, 288, 271, 245, 264, 280, 259, 303, 264, 252, 279, 300, 299, 292, 278, 281, 287, 299, 292, 283, 285, 301, 283, 278, 262, 258, 248, 300, 275, 273, 274, 300, 266, 277, 286, 277, 298, 288, 266, 283, 281, 306, 255, 256, 291, 281, 277, 272, 270, 282, 287, 285, 283, 249, 289, 302, 256, 269, 298, 294, 272, 269, 272, 284, 284, 290, 265, 238, 271, 290, 301, 315, 271, 280, 289, 298, 266, 303, 257, 288, 271, 273, 304, 276, 264, 280, 293, 257, 261, 288, 281, 255, 269, 274, 291, 259, 281, 260, 269, 289, 261, 247])),
        (0x4000_0000_0000_0000, Sparse(&[(98, 1), (101, 1), (108, 1), (117, 1)])),
        (0x400b_a70b_6d0e_de24, Sparse(&[(10, 1), (32, 2), (50, 1), (51, 1), (55, 1), (97, 1), (101, 1), (102, 1), (105, 1), (108, 3), (109, 1), (115, 1)])),
        (0x4009_7258_90b0_aece, Sparse(&[(10, 2), (32, 4), (56, 2), (97, 2), (101, 2), (102, 2), (105, 2), (108, 6), (109, 2), (115, 2)])),
        (0x400b_a70b_6d0e_de24, Sparse(&[(10, 2), (32, 4), (48, 2), (49, 2), (57, 2), (97, 2), (101, 2), (102, 2), (105, 2), (108, 6), (109, 2), (115, 2)])),
        (0x400a_9951_c015_2fe2, Sparse(&[(10, 3), (32, 6), (53, 3), (54, 3), (97, 3), (101, 3), (102, 3), (105, 3), (108, 9), (109, 3), (115, 3)])),
        (0x400b_a70b_6d0e_de24, Sparse(&[(10, 3), (32, 6), (50, 3), (56, 3), (57, 3), (97, 3), (101, 3), (102, 3), (105, 3), (108, 9), (109, 3), (115, 3)])),
        (0x400a_95fa_5bfd_cd12, Sparse(&[(10, 4), (32, 8), (50, 8), (55, 4), (97, 4), (101, 4), (102, 4), (105, 4), (108, 12), (109, 4), (115, 4)])),
        (0x400a_9951_c015_2fe2, Sparse(&[(10, 5), (32, 10), (52, 5), (54, 5), (97, 5), (101, 5), (102, 5), (105, 5), (108, 15), (109, 5), (115, 5)])),
        (0x400b_a70b_6d0e_de24, Sparse(&[(10, 5), (32, 10), (50, 5), (52, 5), (56, 5), (97, 5), (101, 5), (102, 5), (105, 5), (108, 15), (109, 5), (115, 5)])),
        (0x400b_a70b_6d0e_de24, Sparse(&[(10, 6), (32, 12), (49, 6), (50, 6), (52, 6), (97, 6), (101, 6), (102, 6), (105, 6), (108, 18), (109, 6), (115, 6)])),
        (0x400a_95fa_5bfd_cd12, Sparse(&[(10, 6), (32, 12), (49, 12), (55, 6), (97, 6), (101, 6), (102, 6), (105, 6), (108, 18), (109, 6), (115, 6)])),
        (0x400a_95fa_5bfd_cd12, Sparse(&[(10, 7), (32, 14), (48, 7), (50, 14), (97, 7), (101, 7), (102, 7), (105, 7), (108, 21), (109, 7), (115, 7)])),
        (0x4011_b2da_351b_fe7e, Sparse(&[(10, 74307), (32, 807_091), (35, 2288), (48, 1914), (49, 482), (50, 767), (51, 468), (52, 752), (53, 466), (54, 750), (55, 360), (56, 595), (57, 310), (97, 295_567), (98, 96629), (99, 232_279), (100, 46841), (101, 440_578), (102, 175_641), (103, 46841), (104, 231_465), (105, 251_336), (106, 52451), (107, 190_051), (108, 159_419), (109, 52451), (110, 121_322), (111, 311_730), (112, 197_293), (113, 42229), (114, 313_551), (115, 262_906), (116, 184_248), (117, 186_822), (118, 140_489), (119, 95336), (120, 60054), (121, 112_354), (122, 52447)])),
        (0x4011_b2eb_149f_dae3, Sparse(&[(10, 74308), (32, 807_094), (35, 2288), (48, 1914), (49, 482), (50, 768), (51, 468), (52, 752), (53, 466), (54, 750), (55, 360), (56, 595), (57, 310), (65, 1), (68, 1), (69, 2), (72, 1), (73, 2), (78, 3), (79, 1), (80, 1), (82, 1), (83, 3), (84, 2), (97, 295_567), (98, 96629), (99, 232_279), (100, 46841), (101, 440_578), (102, 175_641), (103, 46841), (104, 231_465), (105, 251_336), (106, 52451), (107, 190_051), (108, 159_419), (109, 52451), (110, 121_322), (111, 311_730), (112, 197_293), (113, 42229), (114, 313_551), (115, 262_906), (116, 184_248), (117, 186_822), (118, 140_489), (119, 95336), (120, 60054), (121, 112_354), (122, 52447)])),
    ];

    #[test]
    fn recorded_values_are_reproduced_to_the_last_bit() {
        for (expected, recorded) in RECORDED {
            let mut counts = [0; 256];
            match recorded {
                Dense(all) => counts = **all,
                Sparse(some) => some.iter().for_each(|&(value, count)| counts[value] = count),
            }
            assert_eq!(entropy_of_counts(&counts).to_bits(), *expected);
        }
    }
}
