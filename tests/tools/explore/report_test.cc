#include "tools/explore/report/report.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/explore/frontier.h"
#include "tools/explore/report/axis.h"
#include "tools/explore/report/labels.h"
#include "tools/explore/report/scatter.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Tags are closed in the order in which they were opened, attributes are quoted, and no character
// is left unescaped: what an XML parser checks. Empty when all is well.
std::string XmlFault(const std::string& text) {
  std::vector<std::string> open;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&' && text.find(';', i) > i + 6) return "bare & at " + text.substr(i, 40);
    if (text[i] != '<') continue;
    const size_t end = text.find('>', i);
    if (end == std::string::npos) return "a tag does not end";
    std::string tag = text.substr(i + 1, end - i - 1);
    i = end;
    if (tag[0] == '!') continue;
    if (tag.find('<') != std::string::npos) return "bare < before " + tag;
    if (Count(tag, "\"") % 2 != 0) return "quotes in " + tag;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "unexpected " + tag;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find_first_of(" \n")));
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

PointResult Point(const std::string& name, PointKind kind, int64_t bytes, double perplexity) {
  PointResult p{.kind = kind,
                .name = name,
                .recipe = "--only 'a<b&c\"'",
                .family = kind == PointKind::kFactorize ? "svd" : "as it is",
                .size = {.linear_weights = 1000, .linear_bytes = bytes, .bytes = bytes + 10}};
  for (const char* text : {"code", "<script>alert(1)</script>"}) {
    p.texts.push_back(
        {.text = text,
         .perplexity = {.value = perplexity, .standard_error = 0.1 * perplexity},
         .log_difference = {.value = std::log(perplexity / 8), .standard_error = 0.01},
         .kl = {.value = 0.1, .standard_error = 0.01},
         .kl_p99 = {.value = 1, .standard_error = 0.1},
         .top1 = {.value = 0.9, .standard_error = 0.01},
         .tokens = 100,
         .windows = 4});
  }
  const double ratio = 2000.0 / static_cast<double>(bytes);
  p.speed = SpeedResult{.prefill_tokens_per_second = 100 * ratio,
                        .decode_tokens_per_second = 10 * ratio,
                        .prefill_ratio = {ratio, 0.9 * ratio, 1.1 * ratio},
                        .decode_ratio = {ratio, 0.9 * ratio, 1.1 * ratio},
                        .weight_bytes_per_token = bytes};
  for (int layer = 0; layer < 3; ++layer) {
    for (const char* type : {"self_attn.q_proj", "mlp.up_proj"}) {
      p.linears.push_back({.name = "model.layers." + std::to_string(layer) + "." + type,
                           .rank = kind == PointKind::kFactorize ? 3 : 0,
                           .relative_error = kind == PointKind::kDense ? 0 : 0.1 * (layer + 1),
                           .weighted_error = kind == PointKind::kDense ? 0 : 0.05 * (layer + 1)});
    }
  }
  return p;
}

Exploration Example() {
  Exploration e{.model_name = "a & b <model>", .device = "cpu", .compute = "f32"};
  e.points = {Point("dense", PointKind::kDense, 2000, 8),
              Point("\"quoted\" <b>&amp;\x01\xff", PointKind::kFactorize, 1500, 12),
              Point("svd 0.5", PointKind::kFactorize, 1000, 40),
              Point("hopeless", PointKind::kFactorize, 900, 1e6),
              Point("int4:g64", PointKind::kEncode, 500, 9)};
  e.on_size_frontier = SizeFrontier(e.points);
  e.on_speed_frontier = SpeedFrontier(e.points);
  for (const LinearError& linear : e.points[0].linears) {
    e.spectra.push_back({.linear = linear.name,
                         .largest_rank = 32,
                         .index = {0, 1, 5, 31},
                         .share = {0.5, 0.2, 0.01, 0},
                         .rank_99 = 9});
  }
  e.unmeasured = {{.name = "<i>", .recipe = "r", .reason = "a < b"}};
  e.is_complete = true;
  return e;
}

TEST(ReportTest, HtmlIsWellFormedAndHasAMarkForEachPointInEachChart) {
  const Exploration e = Example();
  const std::string html = ExplorationHtml(e);
  EXPECT_EQ(XmlFault(html), "");
  // Two texts and the speed, each wide and narrow.
  EXPECT_EQ(Count(html, "<g class=\"mark "), 5 * 3 * 2);
  EXPECT_EQ(Count(html, "class=\"cell\""), 3 * 2 * 2);
  EXPECT_EQ(Count(html, "<tr"), 1 + 5 + 2);
  for (const char* const outside : {"http://", "https://", "src=", "@import", "url("}) {
    const int expected = std::string(outside) == "http://" ? Count(html, "http://www.w3.org/") : 0;
    EXPECT_EQ(Count(html, outside), expected) << "the page must need nothing else: " << outside;
  }
}

TEST(ReportTest, NamesAreEscaped) {
  const std::string html = ExplorationHtml(Example());
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(1)"));
  EXPECT_THAT(html, HasSubstr("&quot;quoted&quot; &lt;b&gt;&amp;amp;\xef\xbf\xbd\xef\xbf\xbd"));
  EXPECT_THAT(html, HasSubstr("a &amp; b &lt;model&gt;"));
}

TEST(ReportTest, APageWithoutPointsIsAPage) {
  Exploration e{.model_name = "m"};
  e.unmeasured = {{.why = UnmeasuredPoint::Why::kOutOfTime, .name = "x"}};
  const std::string html = ExplorationHtml(e);
  EXPECT_EQ(XmlFault(html), "");
  EXPECT_THAT(html, HasSubstr("out of time"));
  EXPECT_EQ(PointsCsv(e), "");
}

TEST(ReportTest, WithoutSpeedThereIsNoChartOfIt) {
  Exploration e = Example();
  for (PointResult& p : e.points) p.speed.reset();
  e.on_speed_frontier = SpeedFrontier(e.points);
  const std::string html = ExplorationHtml(e);
  EXPECT_EQ(XmlFault(html), "");
  EXPECT_EQ(Count(html, "<g class=\"mark "), 5 * 2 * 2);
}

TEST(ReportTest, XmlFaultFindsFaults) {
  EXPECT_NE(XmlFault("<a><b></a></b>"), "");
  EXPECT_NE(XmlFault("<a>1 < 2</a>"), "");
  EXPECT_NE(XmlFault("<a>1 & 2</a>"), "");
  EXPECT_EQ(XmlFault("<a b=\"1\"><c/>&lt;</a>"), "");
}

TEST(EscapeTest, KeepsUtf8AndReplacesWhatXmlCannotHold) {
  EXPECT_EQ(Escape("\u00e9 \U0001f600 '\""), "\u00e9 \U0001f600 &#39;&quot;");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(Escape("a\x02"), "a" + bad);
  EXPECT_EQ(Escape("\xc0\x80"), bad + bad);            // overlong
  EXPECT_EQ(Escape("\xed\xa0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(Escape("\xe2\x82"), bad + bad);            // cut off
  EXPECT_EQ(Escape("\xef\xbf\xbe"), bad + bad + bad);  // U+FFFE
}

TEST(AxisTest, TicksAreRoundAndWithin) {
  EXPECT_THAT(TicksOf({.low = 0, .high = 10}, 6), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(TicksOf({.low = 37, .high = 218}, 5), ElementsAre(50, 100, 150, 200));
  EXPECT_THAT(TicksOf({.low = 7, .high = 120, .is_log = true}, 5), ElementsAre(10, 20, 50, 100));
  EXPECT_THAT(
      TicksOf({.low = 1e-6, .high = 1, .is_log = true}, 4),
      ElementsAre(1e-6, ::testing::DoubleNear(1e-4, 1e-15), ::testing::DoubleNear(1e-2, 1e-12), 1));
  // A narrow logarithmic axis.
  EXPECT_GE(TicksOf({.low = 8.1, .high = 8.4, .is_log = true}, 6).size(), 2u);
  for (const double low : {0.001, 3.3, 812.0}) {
    for (const double factor : {1.01, 1.7, 20.0, 3e7}) {
      for (const bool is_log : {false, true}) {
        const Axis axis{.low = low, .high = low * factor, .is_log = is_log};
        const auto ticks = TicksOf(axis, 6);
        EXPECT_THAT(ticks, Each(::testing::AllOf(::testing::Ge(low * (1 - 1e-9)),
                                                 ::testing::Le(low * factor * (1 + 1e-9)))));
        EXPECT_GE(ticks.size(), 1u) << low << " " << factor << " " << is_log;
        EXPECT_LE(ticks.size(), 7u);
      }
    }
  }
}

// A tenth of the values at least, so that ticks differ where they are written in a few digits.
TEST(AxisTest, OneValueHasAnAxisAroundIt) {
  for (const double value : {66.3516, 5.0, -3.0, 0.0, 1e-9, 4e12}) {
    for (const bool is_log : {false, true}) {
      if (is_log && value <= 0) continue;
      const Axis axis = AxisAround({value, value * (1 + 1e-12)}, is_log, 0.07);
      EXPECT_LT(axis.low, value);
      EXPECT_GT(axis.high, value);
      EXPECT_GE(axis.high - axis.low, 0.099 * std::abs(value));
      const auto ticks = TicksOf(axis, 6);
      EXPECT_GE(ticks.size(), 2u) << value << " " << is_log;
      for (const double tick : ticks) EXPECT_LE(TickLabel(tick).size(), 7u) << TickLabel(tick);
    }
  }
  // A real difference keeps its scale.
  EXPECT_DOUBLE_EQ(AxisAround({10, 20}, false, 0.1).low, 9);
}

TEST(LabelsTest, NeverOverlapEachOtherOrMarks) {
  std::vector<LabelWish> wishes;
  std::vector<Box> marks;
  for (int i = 0; i < 40; ++i) {
    const double x = 40 + (i * 37) % 300, y = 30 + (i * 53) % 160;
    wishes.push_back({x, y, "point " + std::to_string(i)});
    marks.push_back({x - 5, y - 5, 10, 10});
  }
  const Box area{0, 0, 400, 220};
  const auto placed = PlaceLabels(wishes, marks, {}, area, 12);
  ASSERT_EQ(placed.size(), wishes.size());
  int count = 0;
  for (size_t i = 0; i < placed.size(); ++i) {
    if (!placed[i]) continue;
    ++count;
    const Box& box = placed[i]->box;
    EXPECT_GE(box.x, 0);
    EXPECT_LE(box.x + box.width, 400);
    for (const Box& mark : marks) EXPECT_FALSE(box.Overlaps(mark));
    for (size_t k = 0; k < i; ++k) EXPECT_FALSE(placed[k] && placed[k]->box.Overlaps(box));
  }
  EXPECT_GT(count, 15);
}

TEST(LabelsTest, CrossALineOnlyWhereNothingElseIsLeft) {
  const std::vector<Box> marks = {{95, 95, 10, 10}};
  const std::vector<LabelWish> wishes = {{100, 100, "point"}};
  // A line through the mark to the right, where the first choice is.
  const std::vector<Box> lines = {{100, 99, 100, 2}};
  const Box area{0, 0, 200, 200};
  const auto free = PlaceLabels(wishes, marks, lines, area, 12);
  ASSERT_TRUE(free[0]);
  EXPECT_FALSE(free[0]->box.Overlaps(lines[0]));
  const auto full = PlaceLabels(wishes, marks, {area}, area, 12);
  ASSERT_TRUE(full[0]) << "a name on a line is better than none";
}

TEST(LabelsTest, ABoldNameHasMoreRoom) {
  const Box area{0, 0, 200, 200};
  const auto regular = PlaceLabels({{20, 100, "as shipped"}}, {}, {}, area, 12);
  const auto bold = PlaceLabels({{20, 100, "as shipped", FontWeight::kBold}}, {}, {}, area, 12);
  ASSERT_TRUE(regular[0] && bold[0]);
  EXPECT_GT(bold[0]->box.width, regular[0]->box.width);
}

TEST(ReportTest, ATickAtTheEdgeIsNotCutOff) {
  // With its margin the axis ends at 10000, where a label has less room than half of it.
  ScatterChart chart{.label = "c", .top_per_x = 1, .top_title = "t"};
  for (const double x : {0.0, 10000 / 1.07 + 1e-6}) {
    chart.points.push_back({.x = x, .y = 5, .x_low = x, .x_high = x, .y_low = 5, .y_high = 6});
  }
  const std::string svg = DrawScatter(chart, 350, 300);
  ASSERT_EQ(Count(svg, ">10000</text>"), 2);
  for (size_t at = svg.find("<text"); at != std::string::npos; at = svg.find("<text", at + 1)) {
    const std::string text = svg.substr(at, svg.find("</text>", at) - at);
    if (text.find("middle") == std::string::npos || text.find("rotate") != std::string::npos) {
      continue;
    }
    const double x = std::stod(text.substr(text.find("x=\"") + 3));
    const std::string label = text.substr(text.find('>') + 1);
    EXPECT_LE(x + TextWidth(label, 12) / 2, 350) << text;
  }
}

// Advances of " " to "~" in thousandths of the font size, rounded up: the tables hmtx and cmap of
// Debian's DejaVuSans.ttf and DejaVuSans-Bold.ttf (fonts-dejavu-core), read by fontTools.
constexpr int kSansAdvances[] = {
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361,  318, 337, 637, 637, 637,
    637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632,
    576, 775, 752, 295, 295, 656, 558, 863, 749, 788, 604, 788, 695, 635,  611, 732, 685, 989, 686,
    611, 686, 391, 337, 391, 838, 500, 500, 613, 635, 550, 635, 616, 353,  635, 634, 278, 278, 580,
    278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818, 592, 592,  525, 637, 337, 637, 838};
constexpr int kSansBoldAdvances[] = {
    349,  457, 521, 838, 696, 1002, 873, 307,  458, 458, 523, 838, 380, 416,  380, 366,
    696,  696, 696, 696, 696, 696,  696, 696,  696, 696, 400, 400, 838, 838,  838, 581,
    1000, 774, 763, 734, 831, 684,  684, 821,  837, 373, 373, 775, 638, 996,  837, 851,
    733,  851, 771, 721, 683, 813,  774, 1104, 771, 725, 726, 458, 366, 458,  838, 500,
    500,  675, 716, 593, 716, 679,  436, 716,  712, 343, 343, 666, 343, 1042, 712, 688,
    716,  716, 494, 596, 479, 712,  652, 924,  646, 652, 583, 712, 366, 712,  838};

TEST(TextWidthTest, IsAtLeastThatOfTheWidestFont) {
  for (int i = 0; i < '~' - ' ' + 1; ++i) {
    const std::string letter(1, static_cast<char>(' ' + i));
    EXPECT_GE(TextWidth(letter, 1000), kSansAdvances[i]) << letter;
    EXPECT_GE(TextWidth(letter, 1000, FontWeight::kBold), kSansBoldAdvances[i]) << letter;
  }
}

TEST(FitTest, CutsWholeCharacters) {
  EXPECT_EQ(Fit("short", 12, 100), "short");
  const std::string cut =
      Fit("\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", 12, 40);
  EXPECT_LE(TextWidth(cut, 12), 40);
  EXPECT_EQ(Escape(cut), cut) << "a character was cut in two";
}

}  // namespace
}  // namespace rankine
