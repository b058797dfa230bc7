// Whether what a step writes is apart from everything else that it touches.
#include <algorithm>
#include <utility>
#include <vector>

#include "plan.hpp"
#include "refusal.hpp"

namespace border {
namespace {

constexpr auto kBefore = [](const auto& a, const auto& b) { return a.begin < b.begin; };

}  // namespace

void Plan::sort_written() {
    written_.clear();
    for (std::size_t i = 0; i < rows_.size(); ++i)
        for (std::size_t c = 0; rows_[i].open && rows_[i].tensor.size > 0 && c <= kinds_.size(); ++c)
            written_.push_back(interval(i, c));
    std::sort(written_.begin(), written_.end(), kBefore);
    apart_ = true;
    for (std::size_t w = 1; w < written_.size(); ++w) apart_ = apart_ && written_[w].begin >= written_[w - 1].end;
    sorted_ = true;
}

Plan::Interval Plan::interval(std::size_t i, std::size_t column) const {
    const View& view = held_[i * columns_ + column].view;
    const char* begin = static_cast<const char*>(view.data);
    return {begin, begin + view.bytes(), i, column};
}

/// Whether a gradient meets memory that some step of this plan writes, this one or another.
bool Plan::meets_written(const void* grad, std::size_t i) {
    const char* begin = static_cast<const char*>(grad);
    const char* end = begin + held_[i * columns_].view.bytes();
    const auto lies_in = [&](std::size_t gap) {  // between two written arrays
        return gap <= written_.size() && (gap == 0 || written_[gap - 1].end <= begin) &&
               (gap == written_.size() || end <= written_[gap].begin);
    };
    std::size_t& gap = rows_[i].gap;
    if (begin == end || lies_in(gap)) return false;
    const auto next = std::upper_bound(written_.begin(), written_.end(), Interval{begin, end, i, 0}, kBefore);
    gap = static_cast<std::size_t>(next - written_.begin());
    return !lies_in(gap);
}

void Plan::check_overlap(const Work& work, bool with_grads) const {
    constexpr std::size_t kGrad = ~std::size_t{0};
    std::vector<Interval> written;
    for (std::size_t i : work.places)
        for (std::size_t c = 0; rows_[i].tensor.size > 0 && c <= kinds_.size(); ++c) written.push_back(interval(i, c));
    std::sort(written.begin(), written.end(), kBefore);
    const auto rank = [](const Interval& a) { return std::pair(a.place, a.column == kGrad ? 1 : 2 * a.column); };
    const auto label = [&](const Interval& a) {
        return name(a.column == kGrad ? "grads" : list_name(a.column), a.place);
    };
    const auto refuse_pair = [&](const Interval& a, const Interval& b) {
        const bool ordered = rank(a) < rank(b);
        refuse("InputError", label(ordered ? b : a) + ": shares memory with " + label(ordered ? a : b) +
                                 ", expected memory of its own");
    };
    for (std::size_t w = 1; w < written.size(); ++w)
        if (written[w].begin < written[w - 1].end) refuse_pair(written[w - 1], written[w]);
    for (std::size_t n = 0; with_grads && n < work.places.size(); ++n) {
        Interval grad = interval(work.places[n], 0);
        if (grad.begin == grad.end) continue;
        grad = {static_cast<const char*>(work.tensors[n].grad),
                static_cast<const char*>(work.tensors[n].grad) + (grad.end - grad.begin), grad.place, kGrad};
        const auto next = std::upper_bound(written.begin(), written.end(), grad, kBefore);
        if (next != written.end() && next->begin < grad.end) refuse_pair(grad, *next);
        if (next != written.begin() && std::prev(next)->end > grad.begin) refuse_pair(grad, *std::prev(next));
    }
}

}  // namespace border
